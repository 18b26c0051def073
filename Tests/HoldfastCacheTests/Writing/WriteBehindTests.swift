// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Writing behind", .timeLimit(.minutes(5)))
struct WriteBehindTests {
    @Test("the cache has a value at once, the source a little later, together with others")
    func batch() async throws {
        let written = try Written { .behind($0) }
        try await written.run {
            try await written.cache.write("1", for: "a")
            try await written.cache.write("1", for: "b")
            try await written.cache.erase("c")
            #expect(written.cache.cached("a") == "1")
            #expect(written.source.calls.isEmpty)
            #expect(written.statistics.pendingWrites == 3)
            #expect(await written.soon { written.statistics.writes == 3 })
            #expect(written.source.rows == ["a": "1", "b": "1"])
            #expect(written.source.calls.count == 1)
            #expect(written.statistics.pendingWrites == 0)
        }
    }

    @Test("a read sees what waits to be written, though the memory has lost it")
    func readPending() async throws {
        let written = try Written(capacity: 1) { .behind($0) { $0.maximumDelay = .seconds(3600) } }
        written.source.put("old", for: "a")
        written.source.put("old", for: "gone")
        try await written.run {
            try await written.cache.write("new", for: "a")
            try await written.cache.erase("gone")
            for number in 0..<10 { try written.cache.set("x", for: "other\(number)") }
            written.cache.remove("a")
            let one = try await written.read("a")
            #expect(one == "new")
            await #expect(throws: NotFound.self) { _ = try await written.read("gone") }
            written.cache.invalidateAll()
            let many = try await written.cache.values(for: ["a", "gone", "b"]) { keys in
                #expect(keys == ["b"])
                return ["b": "loaded"]
            }
            #expect(many == ["a": "new", "b": "loaded"])
        }
    }

    @Test("a load that began before a write does not put the old value back")
    func staleLoad() async throws {
        let written = try Written { .behind($0) { $0.maximumDelay = .seconds(3600) } }
        try await written.run {
            let gate = Gate()
            let load = Task {
                try await written.cache.value(for: "a") {
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            try await written.cache.write("new", for: "a")
            gate.open()
            _ = try await load.value
            #expect(written.cache.cached("a") == "new")
        }
    }

    @Test("of many changes of a key the last is written; removed and then set, it is set")
    func coalescing() async throws {
        let written = try Written { .behind($0) }
        try await written.run {
            for number in 0..<100 {
                try await written.cache.write("\(number)", for: "a")
                try await written.cache.erase("b")
                try await written.cache.write("\(number)", for: "b")
            }
            #expect(await written.soon { written.statistics.pendingWrites == 0 })
            #expect(written.source.rows == ["a": "99", "b": "99"])
            #expect(written.source.calls.joined().count < 10)
            #expect(written.statistics.coalescedWrites > 280)
        }
    }

    @Test("a source that fails now and then loses nothing and reorders nothing", arguments: 0..<10 as Range<UInt64>)
    func failing(seed: UInt64) async throws {
        let written = try Written {
            .behind($0) {
                $0.maximumAttempts = nil
                $0.maximumBatch = 4
                $0.concurrentBatches = 3
            }
        }
        let generator = Mutex(SeededGenerator(seed: seed))
        written.source.fail { changes in
            switch generator.withLock({ Int.random(in: 0..<3, using: &$0) }) {
            case 0: nil
            case 1: PartialWriteFailure([changes[0].key: Failure()])
            default: Failure()
            }
        }
        try await written.run {
            for number in 0..<60 {
                let key = "k\(generator.withLock { Int.random(in: 0..<9, using: &$0) })"
                try await written.cache.write("\(number)", for: key)
                if number % 10 == 9 { written.clock.advance(by: .milliseconds(150)) }
            }
            #expect(await written.soon { written.statistics.pendingWrites == 0 })
            for (key, value) in written.source.rows { #expect(written.cache.cached(key) == value) }
            #expect(!written.source.isBroken)
            #expect(written.statistics.writeFailures > 0)
        }
    }

    @Test("what cannot be written is a dead letter that can be seen, tried again and thrown away")
    func deadLetters() async throws {
        let journal = PaperJournal()
        let written = try Written { .behind($0, journal: journal) { $0.maximumAttempts = 2 } }
        written.source.put("old", for: "a")
        written.source.fail { _ in Failure(number: 7) }
        try await written.run {
            try await written.cache.write("1", for: "a")
            try await written.cache.write("1", for: "b")
            #expect(await written.soon { written.cache.deadLetters().count == 2 })
            #expect(written.cache.deadLetters().map(\.change.key) == ["a", "b"])
            #expect(written.cache.deadLetters().first?.error as? Failure == Failure(number: 7))
            #expect(written.statistics.parkedWrites == 2)
            // The cache does not show what the source does not have.
            #expect(await eventually { written.cache.cached("a") == nil })
            let value = try await written.read("a")
            #expect(value == "old")
            let count = written.log.all.count { if case .writeParked = $0 { true } else { false } }
            #expect(count == 2)
            written.source.fail(nil)
            #expect(try await written.cache.discardDeadLetters(["b"]) == 1)
            #expect(written.cache.retryDeadLetters() == 1)
            #expect(await written.soon { written.source.rows == ["a": "1"] })
            #expect(await written.soon { written.statistics.pendingWrites == 0 })
        }
        #expect(try await journal.open().changes.isEmpty)
    }

    @Test("dead letters are there after a restart")
    func deadLettersSurvive() async throws {
        let journal = PaperJournal()
        let first = try Written { .behind($0, journal: journal) { $0.maximumAttempts = 1 } }
        first.source.fail { _ in Failure() }
        try await first.run {
            try await first.cache.write("1", for: "a")
            #expect(await first.soon { journal.records.count == 2 })
        }
        let second = try Written { .behind($0, journal: journal) }
        try await second.run {
            #expect(await eventually { second.cache.deadLetters().count == 1 })
            second.cache.retryDeadLetters()
            #expect(await second.soon { second.source.rows == ["a": "1"] })
        }
    }

    @Test("a permanent failure is not tried again")
    func permanent() async throws {
        let written = try Written { .behind($0) }
        written.source.fail { _ in PermanentWriteFailure("no such column") }
        try await written.run {
            try await written.cache.write("1", for: "a")
            #expect(await written.soon { written.cache.deadLetters().count == 1 })
            #expect(written.source.calls.count == 1)
        }
    }

    @Test("a full queue has callers wait, or tells them, and changes nothing")
    func overflow() async throws {
        let full = try Written {
            .behind($0) {
                $0.capacity = 2
                $0.overflow = .fail
                $0.maximumDelay = .seconds(3600)
            }
        }
        try await full.run {
            for key in ["a", "b", "a"] { try await full.cache.write("1", for: key) }
            let error = await #expect(throws: CacheError.self) { try await full.cache.write("1", for: "c") }
            #expect(error?.code == .writerFull)
            #expect(full.cache.cached("c") == nil)
        }
        let gate = Gate()
        let waiting = try Written { .behind($0) { $0.capacity = 1 } }
        waiting.source.wait(at: gate)
        try await waiting.run {
            try await waiting.cache.write("1", for: "a")
            let next = Task { try await waiting.cache.write("1", for: "b") }
            let impatient = Task { try await waiting.cache.write("1", for: "c") }
            #expect(await waiting.soon { gate.arrivals == 1 })
            impatient.cancel()
            await #expect(throws: CancellationError.self) { try await impatient.value }
            #expect(waiting.cache.cached("b") == nil)
            gate.open()
            #expect(await waiting.soon { waiting.source.rows.count == 1 })
            try await next.value
            #expect(await waiting.soon { waiting.source.rows == ["a": "1", "b": "1"] })
        }
    }

    @Test("a writer that does not end is cancelled, and its keys wait until it has ended")
    func hanging() async throws {
        let written = try Written {
            .behind($0) {
                $0.attemptLimit = .seconds(1)
                $0.maximumDelay = .zero
            }
        }
        let gate = Gate()
        written.source.wait(at: gate)
        written.source.fail { $0[0].attempt == 1 ? Failure() : nil }
        try await written.run {
            try await written.cache.write("1", for: "a")
            await gate.arrived()
            #expect(await written.soon { written.source.wasCancelled })
            written.clock.advance(by: .seconds(100))
            #expect(written.source.calls.count == 1)
            gate.open()
            #expect(await written.soon { written.source.rows == ["a": "1"] })
            let late = written.log.all.contains {
                if case .writeFailed(_, _, let error) = $0 { (error as? CacheError)?.code == .deadline } else { false }
            }
            #expect(late)
            #expect(!written.source.isBroken)
        }
    }

    @Test("a cache without a writer says so")
    func noWriter() async throws {
        try await withCache { cache in
            let error = await #expect(throws: CacheError.self) { try await cache.write("1", for: "a") }
            #expect(error?.code == .invalidArgument)
            #expect(cache.cached("a") == nil)
        }
    }
}
