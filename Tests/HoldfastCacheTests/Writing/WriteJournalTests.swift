// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastCache

@Suite("Writing behind, and the end of the process", .timeLimit(.minutes(5)))
struct WriteJournalTests {
    @Test("what waited when the process was killed is written by the next, and read before that")
    func kill() async throws {
        let base = try TemporaryDirectory.make(prefix: "hf-writing-")
        defer { TemporaryDirectory.remove(base) }
        let first = try Written {
            .behind($0, journal: FileWriteJournal(directory: base + "/j")) { $0.maximumDelay = .seconds(3600) }
        }
        try await first.die {
            try await first.cache.write("1", for: "a")
            try await first.cache.write("2", for: "a")
            try await first.cache.erase("gone")
        }
        #expect(first.source.calls.isEmpty)
        let left = first.log.all.compactMap {
            if case .writesLeft(_, let count, true) = $0 { count } else { nil }
        }
        #expect(left == [2])

        let source = Source()
        source.put("old", for: "a")
        source.put("old", for: "gone")
        let gate = Gate()
        source.wait(at: gate)
        let second = try Written(source) { .behind($0, journal: FileWriteJournal(directory: base + "/j")) }
        try await second.run {
            #expect(await eventually { second.statistics.pendingWrites == 2 })
            let value = try await second.read("a")
            #expect(value == "2")
            gate.open()
            #expect(await second.soon { second.statistics.pendingWrites == 0 })
            #expect(source.rows == ["a": "2"])
            try await second.cache.write("3", for: "a")
            #expect(await second.soon { source.rows == ["a": "3"] })
            // Versions go on where they were, also for a source that remembers them.
            #expect(!source.isBroken)
            #expect(source.calls.joined().map(\.version).max() == 4)
        }
    }

    @Test("a journal that cannot be written anew works, and its cache says that it grows")
    func notShortened() async throws {
        let base = try TemporaryDirectory.make(prefix: "hf-writing-")
        defer { TemporaryDirectory.remove(base) }
        struct NoRoom: Error {}
        let isFull = Mutex(false)
        let journal = FileWriteJournal(directory: base + "/j", durability: .processEnd) { step in
            if step == .drafted, isFull.withLock({ $0 }) { throw NoRoom() }
        }
        let written = try Written { .behind($0, journal: journal) }
        let value = String(repeating: "v", count: 100_000)
        try await written.run {
            isFull.withLock { $0 = true }
            for number in 0..<30 {
                try await written.cache.write("\(number)\(value)", for: "a")
                #expect(await written.soon { written.statistics.pendingWrites == 0 })
            }
            let failures = written.log.all.count { if case .journalNotShortened = $0 { true } else { false } }
            // Not each time: only when it is twice as long.
            #expect((1...2).contains(failures))
            #expect(written.source.rows["a"]?.hasPrefix("29v") == true)
        }
    }

    @Test("written once is not written again by the next run")
    func settled() async throws {
        let journal = PaperJournal()
        let first = try Written { .behind($0, journal: journal) }
        try await first.run {
            try await first.cache.write("1", for: "a")
            #expect(await first.soon { journal.records.count == 2 })
        }
        let second = try Written { .behind($0, journal: journal) }
        try await second.run {
            try await second.cache.write("1", for: "b")
            #expect(await second.soon { second.statistics.writes == 1 })
            #expect(second.source.rows == ["b": "1"])
        }
    }

    @Test("a full disk is an error of the write, before the cache changes")
    func fullDisk() async throws {
        let journal = PaperJournal()
        let written = try Written { .behind($0, journal: journal) }
        try await written.run {
            try await written.cache.write("old", for: "a")
            journal.isFull = true
            let error = await #expect(throws: CacheError.self) { try await written.cache.write("new", for: "a") }
            #expect(error?.code == .storage)
            #expect(written.cache.cached("a") == "old")
            // What is written is written all the same, though the journal cannot be told.
            #expect(await written.soon { written.source.rows == ["a": "old"] })
            #expect(
                await eventually { written.log.all.contains { if case .journalFailed = $0 { true } else { false } } }
            )
            journal.isFull = false
            try await written.cache.write("new", for: "a")
            #expect(await written.soon { written.source.rows == ["a": "new"] })
        }
    }

    @Test("a journal that cannot be used stops the service, and says why to callers")
    func unusable() async throws {
        let journal = PaperJournal()
        journal.isUnusable = true
        let written = try Written { .behind($0, journal: journal) }
        let run = Task { try await written.service.run() }
        let early = await #expect(throws: CacheError.self) { try await written.cache.write("1", for: "a") }
        #expect(early?.code == .storage || early?.code == .notRunning)
        let error = await #expect(throws: CacheError.self) { try await run.value }
        #expect(error?.code == .storage)
        #expect(written.cache.cached("a") == nil)
    }

    @Test("changes that this program cannot read stay in the journal")
    func unreadable() async throws {
        let journal = PaperJournal()
        try await journal.append([JournalRecord(.set, version: 5, key: "a", payload: [200, 1, 2])])
        let written = try Written { .behind($0, journal: journal) }
        try await written.run {
            #expect(
                await eventually {
                    written.log.all.contains { if case .journalUnreadable(_, 1) = $0 { true } else { false } }
                }
            )
            try await written.cache.write("1", for: "b")
            #expect(await written.soon { written.source.rows == ["b": "1"] })
            #expect(await eventually { journal.records.count == 3 })
        }
        let found1 = try await journal.open().changes.map(\.key)
        #expect(found1 == ["a"])
    }

    @Test("a graceful shutdown writes what waits, and takes no more")
    func drain() async throws {
        let written = try Written {
            .behind($0) {
                $0.maximumDelay = .seconds(3600)
                $0.maximumBatch = 3
            }
        }
        let gate = Gate()
        written.source.wait(at: gate)
        async let run: Void = written.service.run()
        try await written.cache.write("1", for: "a")
        try await written.cache.write("1", for: "b")
        written.source.fail { changes in
            // One of them only works the second time.
            changes.contains { $0.key == "b" && $0.attempt == 1 } ? PartialWriteFailure(["b": Failure()]) : nil
        }
        written.service.shutDown()
        await gate.arrived()
        let error = await #expect(throws: CacheError.self) { try await written.cache.write("1", for: "c") }
        #expect(error?.code == .notRunning)
        gate.open()
        #expect(await written.soon { written.source.rows == ["a": "1", "b": "1"] })
        try await run
        #expect(!written.log.all.contains { if case .writesLeft = $0 { true } else { false } })
    }

    @Test("a shutdown does not wait for ever, and says what it left")
    func drainLimit() async throws {
        let written = try Written { .behind($0) }
        written.source.fail { _ in Failure() }
        async let run: Void = written.service.run()
        try await written.cache.write("1", for: "a")
        written.service.shutDown()
        #expect(await written.soon { written.log.all.contains { if case .writesLeft = $0 { true } else { false } } })
        try await run
        let left = written.log.all.compactMap { if case .writesLeft(_, let count, false) = $0 { count } else { nil } }
        #expect(left == [1])
    }

    @Test("what work has written behind is written when it returns", arguments: [true, false])
    func endOfWork(isSlow: Bool) async throws {
        let written = try Written { .behind($0) { $0.maximumDelay = isSlow ? .seconds(3600) : .zero } }
        let name = try await withCacheService(written.service) { _ in
            try await written.cache.write("1", for: "a")
            return written.cache.name
        }
        #expect(name == "test")
        #expect(written.source.rows == ["a": "1"])
        #expect(!written.log.all.contains { if case .writesLeft = $0 { true } else { false } })
    }

    @Test("work that throws ends at once, and what it has written stays in the journal")
    func failedWork() async throws {
        let journal = PaperJournal()
        let written = try Written { .behind($0, journal: journal) { $0.maximumDelay = .seconds(3600) } }
        try await written.die { try await written.cache.write("1", for: "a") }
        #expect(written.source.calls.isEmpty)
        #expect(journal.records.count == 1)
    }

    @Test("a value that was loaded before the journal was read does not stay in memory")
    func loadedBeforeTheJournal() async throws {
        let journal = PaperJournal()
        let first = try Written { .behind($0, journal: journal) { $0.maximumDelay = .seconds(3600) } }
        try await first.die { try await first.cache.write("new", for: "a") }
        let (source, gate) = (Source(), Gate())
        source.put("old", for: "a")
        journal.wait(at: gate)
        let second = try Written(source) { .behind($0, journal: journal) }
        try await second.run {
            await gate.arrived()
            // Nobody knows better yet.
            let found2 = try await second.read("a")
            #expect(found2 == "old")
            gate.open()
            #expect(await second.soon { source.rows["a"] == "new" && second.cache.cached("a") != "old" })
            let found3 = try await second.read("a")
            #expect(found3 == "new")
        }
    }

    @Test("a value that the tier kept over the end of the process is removed when the journal brings a newer one")
    func staleTier() async throws {
        let (journal, gate) = (PaperJournal(), Gate())
        let first = try Written { .behind($0, journal: journal) { $0.maximumDelay = .seconds(3600) } }
        try await first.die { try await first.cache.write("new", for: "a") }
        journal.wait(at: gate)
        let source = Source()
        let configure = { @Sendable (configuration: inout CacheConfiguration<String, String>) in
            configuration.writing = .behind(source, journal: journal) { $0.maximumDelay = .zero }
        }
        try await withNodes(1, configure: configure) { _, nodes in
            await gate.arrived()
            try await nodes[0].cache.set("old", for: "a")
            gate.open()
            #expect(await eventually { source.rows["a"] == "new" })
            #expect(await eventually { nodes[0].cache.cached("a") != "old" })
            let found4 = try await nodes[0].cache.get("a")
            #expect(found4 != "old")
        }
    }
}
