// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastCache

@Suite("Writing through", .timeLimit(.minutes(5)))
struct WriteThroughTests {
    @Test("when a write returns, source and cache have the value; when an erase returns, neither has one")
    func through() async throws {
        let written = try Written { .through($0) }
        try await written.run {
            try await written.cache.write("1", for: "a")
            #expect(written.source.rows == ["a": "1"])
            #expect(written.cache.cached("a") == "1")
            try await written.cache.erase("a")
            #expect(written.source.rows.isEmpty)
            #expect(written.cache.cached("a") == nil)
            #expect(written.source.calls.joined().map(\.version) == [1, 2])
            #expect(written.statistics.writes == 2)
        }
    }

    @Test("a source that refuses has the cache forget the key, and never show the new value")
    func refused() async throws {
        let written = try Written { .through($0) }
        try await written.run {
            try await written.cache.write("old", for: "a")
            written.source.fail { _ in PartialWriteFailure(["a": Failure(number: 3)]) }
            let error = await #expect(throws: Failure.self) { try await written.cache.write("new", for: "a") }
            #expect(error == Failure(number: 3))
            #expect(written.cache.cached("a") == nil)
            let value = try await written.read("a")
            #expect(value == "old")
            #expect(written.statistics.writeFailures == 1)
        }
    }

    @Test("a load that races with a write does not store what was there before", arguments: [true, false])
    func staleLoad(beginsBefore: Bool) async throws {
        let written = try Written { .through($0) }
        try await written.run {
            let door = Gate()
            written.source.wait(at: door)
            let gate = Gate()
            let load = { @Sendable in
                try await written.cache.value(for: "a") {
                    await gate.pass()
                    return "old"
                }
            }
            var loading: Task<String, any Error>?
            if beginsBefore {
                loading = Task { try await load() }
                await gate.arrived()
            }
            let write = Task { try await written.cache.write("new", for: "a") }
            await door.arrived()
            if !beginsBefore {
                loading = Task { try await load() }
                await gate.arrived()
            }
            door.open()
            try await write.value
            gate.open()
            _ = try await loading?.value
            #expect(written.cache.cached("a") == "new")
        }
    }

    @Test("source and cache agree on the last of many writes at the same time")
    func serialised() async throws {
        let written = try Written { .through($0) }
        try await written.run {
            for round in 0..<20 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<10 {
                        group.addTask { try await written.cache.write("\(round)/\(number)", for: "a") }
                    }
                    try await group.waitForAll()
                }
                #expect(written.cache.cached("a") == written.source.rows["a"])
            }
            #expect(!written.source.isBroken)
        }
    }

    @Test("who is cancelled while waiting for his turn changes nothing and holds nobody up")
    func cancelled() async throws {
        let written = try Written { .through($0) }
        try await written.run {
            let door = Gate()
            written.source.wait(at: door)
            let first = Task { try await written.cache.write("1", for: "a") }
            await door.arrived()
            let second = Task { try await written.cache.write("2", for: "a") }
            second.cancel()
            door.open()
            await #expect(throws: CancellationError.self) { try await second.value }
            let third = Task { try await written.cache.write("3", for: "a") }
            try await first.value
            try await third.value
            #expect(written.source.rows == ["a": "3"])
            #expect(written.source.calls.count == 2)
        }
    }

    @Test("processes write a key one after the other, in the order of their fencing tokens")
    func processes() async throws {
        let source = Source()
        let configure = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .through(source)
        }
        try await withNodes(3, configure: configure) { _, nodes in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for round in 0..<5 {
                    for (number, node) in nodes.enumerated() {
                        group.addTask { try await node.cache.write("\(number)/\(round)", for: "a") }
                    }
                }
                try await group.waitForAll()
            }
            #expect(!source.isBroken)
            #expect(Set(source.calls.joined().map(\.version)).count == 15)
            for node in nodes {
                // Memory follows when the bus brings the news.
                #expect(await eventually { node.cache.cached("a").map { $0 == source.rows["a"] } ?? true })
                let value = try await node.value("a", "never")
                #expect(value == source.rows["a"])
            }
            try await nodes[1].cache.erase("a")
            #expect(source.rows.isEmpty)
            #expect(await eventually { nodes[0].cache.cached("a") == nil })
            let value = try await nodes[0].value("a", "loaded")
            #expect(value == "loaded")
        }
    }

    @Test("a shared cache written behind tells the others at once, and reads what waits")
    func sharedBehind() async throws {
        let source = Source()
        let configure = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .behind(source) { $0.maximumDelay = .seconds(3600) }
        }
        try await withNodes(2, configure: configure) { shared, nodes in
            _ = try await nodes[1].value("a", "old")
            try await nodes[0].cache.write("new", for: "a")
            #expect(await eventually { nodes[1].cache.cached("a") == nil })
            let other = try await nodes[1].value("a", "old")
            #expect(other == "new")
            // The tier may lose it.
            _ = try await shared.tier.remove(["a"], in: "test", keepFor: .seconds(60))
            nodes[0].cache.memory.remove("a")
            let own = try await nodes[0].cache.get("a")
            #expect(own == "new")
            let read = try await nodes[0].value("a", "old")
            #expect(read == "new")
            #expect(source.calls.isEmpty)
        }
    }

    @Test("a value that the tier would not take is not written to the source either")
    func tooLarge() async throws {
        let source = Source()
        let configure = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .through(source)
            configuration.maximumSharedValue = 10
        }
        try await withNodes(1, configure: configure) { _, nodes in
            let long = String(repeating: "x", count: 20)
            let error = await #expect(throws: CacheError.self) { try await nodes[0].cache.write(long, for: "a") }
            #expect(error?.code == .invalidArgument)
            #expect(source.calls.isEmpty)
        }
    }

    @Test("who is cancelled after his write went through has the cache forget the key")
    func cancelledAfterwards() async throws {
        let source = Source()
        let writing = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .through(source)
        }
        try await withNodes(2, configure: writing) { shared, nodes in
            try await nodes[0].cache.write("old", for: "a")
            _ = try await nodes[1].value("a", "never")
            let door = Gate()
            source.wait(at: door)
            let write = Task { try await nodes[0].cache.write("new", for: "a") }
            await door.arrived()
            shared.tier.fault = .hang
            door.open()
            #expect(await eventually { source.rows["a"] == "new" })
            write.cancel()
            _ = try? await write.value
            shared.tier.fault = .none
            for node in nodes {
                #expect(
                    await eventuallyAsync {
                        try await ticking(shared.clock) { try await node.value("a", "new") } == "new"
                    }
                )
            }
        }
    }

    @Test("who loses the lock while he changes the cache has it forget the key")
    func lostWhileApplying() async throws {
        let configure = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .through(Source())
        }
        try await withNodes(2, configure: configure) { shared, nodes in
            let lease = try await nodes[0].locks.acquire("write/a")
            let cache = nodes[0].cache
            let apply: () async throws -> Void = {
                try await cache.set("old", for: "a")
                _ = try await nodes[1].store.forceRelease("write/a")
                #expect(await eventually { (try? lease.checkValid()) == nil })
            }
            try await cache.memory.send(
                .set("old"),
                "a",
                lock: { lease },
                apply,
                forget: { try await cache.remove("a") }
            )
            let found = try await nodes[1].cache.get("a")
            #expect(found == nil)
            withExtendedLifetime(shared) {}
        }
    }

    @Test("versions that cannot be counted up from are refused")
    func firstVersions() {
        for version in [0, UInt64.max] {
            var code: CacheError.Code?
            do {
                _ = try Written { .through($0, firstVersion: version) }
            } catch {
                code = (error as? CacheError)?.code
            }
            #expect(code == .invalidArgument)
        }
    }
}
