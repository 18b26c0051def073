// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("FallbackTier keeps the contract", .timeLimit(.minutes(5)))
struct FallbackContractTests {
    private func subject(
        _ pair: TierPair,
        _ make: @escaping @Sendable () async throws -> FallbackTier
    ) -> TierContract.Subject {
        TierContract.Subject(pass: { pair.clock.advance(by: $0) }, makeTier: make)
    }

    @Test("While the primary works", arguments: TierContract.cases)
    func healthy(_ promise: TierContract.Case) async throws {
        let pair = TierPair()
        try await promise.check(self.subject(pair) { pair.join() })
    }

    @Test("While it fails", arguments: TierContract.cases)
    func out(_ promise: TierContract.Case) async throws {
        let pair = TierPair()
        pair.primary.fault = .fail
        let subject = self.subject(pair) {
            let tier = pair.join(life: .seconds(24 * 60 * 60))
            await pair.notice(tier)
            return tier
        }
        try await promise.check(subject)
        #expect(pair.primary.counts.writes == 0)
    }

    @Test("After an outage", arguments: TierContract.cases)
    func returned(_ promise: TierContract.Case) async throws {
        let pair = TierPair()
        let subject = self.subject(pair) {
            let tier = pair.join()
            pair.primary.fault = .fail
            await pair.notice(tier)
            try await pair.end(tier)
            return tier
        }
        try await promise.check(subject)
    }
}

@Suite("An outage of a tier with a fallback", .timeLimit(.minutes(5)))
struct FallbackTests {
    private let pair = TierPair()

    @Test("After three failures the secondary is read and written, and no call waits for the primary")
    func takesOver() async throws {
        let tier = self.pair.join()
        self.pair.primary.fault = .fail
        for _ in 0..<2 { await #expect(throws: CacheError.self) { try await tier.text("a") } }
        #expect(try await tier.text("a") == nil)
        #expect(tier.isOut && tier.counts.outages == 1)
        _ = try await tier.put("a", "v")
        #expect(try await tier.text("a") == "v")
        #expect(self.pair.primary.counts.reads == 3 && self.pair.primary.counts.writes == 0)
    }

    @Test("What is in the secondary ends with the life that it has there")
    func life() async throws {
        let tier = self.pair.join(life: .seconds(30))
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        _ = try await tier.put("a", "v")
        self.pair.clock.advance(by: .seconds(29))
        #expect(try await tier.text("a") == "v")
        self.pair.clock.advance(by: .seconds(2))
        #expect(try await tier.text("a") == nil)
    }

    /// What may be changed in an outage.
    enum Change: String, CaseIterable, CustomTestStringConvertible {
        case removed, tagged, prefixed, all, set

        var testDescription: String { self.rawValue }

        func make(_ tier: FallbackTier) async throws {
            switch self {
            case .removed: _ = try await tier.remove(["a/1"], in: "n", keepFor: .seconds(60))
            case .tagged: _ = try await tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(3600))
            case .prefixed: _ = try await tier.invalidate(.prefix("a/"), in: "n", keepFor: .seconds(3600))
            case .all: _ = try await tier.invalidate(.all, in: "n", keepFor: .seconds(3600))
            case .set: _ = try await tier.put("a/1", "new")
            }
        }

        /// Whether an entry from before the change is still given.
        func isResurrected(_ tier: FallbackTier, loadedUnder mark: UInt64) async throws -> Bool {
            let reading = try await tier.read(["a/1"], in: "n")
            let tag = try await tier.marks(of: ["t"], in: "n")[0]
            return reading.entries[0].payload.map { String(decoding: $0, as: UTF8.self) } == "old"
                && reading.marks.admits("a/1", since: mark) && tag <= mark
        }
    }

    @Test("What was changed in an outage is not resurrected after it", arguments: Change.allCases)
    func notResurrected(_ change: Change) async throws {
        let tier = self.pair.join()
        let mark = try await tier.read([], in: "n").marks.current
        _ = try await tier.put("a/1", "old")
        _ = try await tier.put("b/1", "other")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        try await change.make(tier)
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        #expect(try await !change.isResurrected(tier, loadedUnder: mark))
        // The rest is as it was.
        #expect(try await tier.text("b/1") == "other")
        if change == .removed || change == .set { #expect(try await tier.read([], in: "n").marks.all == 0) }
        #expect(tier.counts.replayed == 1)
    }

    @Test("What a process changed that is gone since is told by whoever returns", arguments: Change.allCases)
    func crashed(_ change: Change) async throws {
        let (tier, gone) = (self.pair.join(), self.pair.join())
        let mark = try await tier.read([], in: "n").marks.current
        _ = try await tier.put("a/1", "old")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        await self.pair.notice(gone)
        try await change.make(gone)
        try await self.pair.end(tier)
        #expect(!tier.isOut && gone.isOut)
        #expect(try await !change.isResurrected(tier, loadedUnder: mark))
    }

    @Test("The primary is not believed before it could be told", arguments: Change.allCases)
    func refusesReads(_ change: Change) async throws {
        let (primary, clock) = (PickyTier(self.pair.primary), self.pair.clock)
        let tier = FallbackTier(primary: primary, secondary: self.pair.secondary, clock: clock)
        _ = try await tier.put("a/1", "old")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        try await change.make(tier)
        self.pair.primary.fault = .none
        primary.refusesChanges = true
        for _ in 0..<3 {
            clock.advance(by: .seconds(61))
            let expected: String? = change == .set ? "new" : nil
            #expect(try await tier.text("a/1") == expected)
            #expect(tier.isOut)
        }
        primary.refusesChanges = false
        clock.advance(by: .seconds(61))
        _ = try await tier.text("a/1")
        #expect(!tier.isOut)
    }

    @Test("What is changed while the primary is being told reaches it too")
    func whileReturning() async throws {
        let (tier, _) = try await self.pair.returning { tier, _ in
            _ = try await tier.remove(["a/1"], in: "n", keepFor: .seconds(60))
            #expect(tier.isOut)
        }
        #expect(!tier.isOut)
        #expect(try await tier.text("a/1") == nil)
        #expect(try await self.pair.primary.read(["a/1"], in: "n").entries[0].payload == nil)
    }

    @Test("What is changed while the primary is being told, and does not reach it, keeps it from being believed")
    func missedWhileReturning() async throws {
        let (tier, primary) = try await self.pair.returning { tier, primary in
            primary.refusesChanges = true
            _ = try await tier.remove(["a/1"], in: "n", keepFor: .seconds(60))
        }
        #expect(tier.isOut)
        primary.refusesChanges = false
        self.pair.clock.advance(by: .seconds(61))
        #expect(try await tier.text("a/1") == nil)
        #expect(!tier.isOut)
    }

    @Test("What one outage left in the secondary is not given in the next", arguments: [false, true])
    func leftovers(_ failsAtTheEnd: Bool) async throws {
        let tier = self.pair.join(life: .seconds(3600))
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        let mark = try await tier.read([], in: "n").marks.current
        _ = try await tier.put("a", "first")
        if failsAtTheEnd { self.pair.secondary.fault = .fail }
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        self.pair.secondary.fault = .none
        _ = try await tier.put("a", "second")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        #expect(tier.isOut)
        let reading = try await tier.read(["a"], in: "n")
        #expect(reading.entries[0].payload == nil || !reading.marks.admits("a", since: mark))
    }

    @Test("When the secondary is gone at the end of an outage, nothing of the primary is believed")
    func bothFailed() async throws {
        let tier = self.pair.join()
        let mark = try await tier.read([], in: "n").marks.current
        _ = try await tier.put("a", "old")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        self.pair.secondary.fault = .fail
        let error = await #expect(throws: CacheError.self) { try await tier.text("a") }
        #expect(error?.code == .tierUnavailable)
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        #expect(try await !tier.read([], in: "n").marks.admits("a", since: mark))
    }

    @Test("A change that cannot be written down does not take effect, and is not forgotten")
    func notWrittenDown() async throws {
        let tier = self.pair.join()
        _ = try await tier.put("a", "old")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        self.pair.secondary.fault = .fail
        await #expect(throws: CacheError.self) { try await tier.remove(["a"], in: "n", keepFor: .seconds(60)) }
        self.pair.secondary.fault = .none
        // Told again, it is written down again.
        let other = self.pair.join()
        _ = try await tier.remove(["a"], in: "n", keepFor: .seconds(60))
        self.pair.primary.fault = .fail
        await self.pair.notice(other)
        try await self.pair.end(other)
        #expect(try await other.text("a") == nil)
    }

    @Test("A version of one tier is never taken for one of the other")
    func straddling() async throws {
        let tier = self.pair.join()
        guard case .written(let before)? = try await tier.put("a", "1") else { throw Failure() }
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        guard case .written(let during)? = try await tier.put("a", "2") else { throw Failure() }
        // Their own numbers are equal.
        #expect(before == 2 && during >> 1 >= 1 && during % 2 == 1)
        for version in [before, (during >> 1) << 1] {
            #expect(try await tier.put("a", "3", if: .version(version)) == .refused(version: during))
        }
        try await self.pair.end(tier)
        guard case .written(let after)? = try await tier.put("a", "4") else { throw Failure() }
        #expect(try await tier.put("a", "5", if: .version(after | 1)) == .refused(version: after))
        #expect(try await tier.put("a", "6", if: .version(after)) != .refused(version: after))
    }

    @Test("A value that was loaded under marks of the secondary is never immune against those of the primary")
    func marks() async throws {
        for number in 0..<50 {
            _ = try await self.pair.secondary.invalidate(.tag("\(number)"), in: "n", keepFor: .seconds(3600))
        }
        let tier = self.pair.join()
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        var envelope = Envelope(codec: 1)
        envelope.mark = try await tier.read([], in: "n").marks.current
        #expect(envelope.mark > 100)
        let write = TierWrite(
            key: "a",
            payload: envelope.encoded(for: "a", in: "n"),
            timeToLive: .seconds(60),
            condition: .version(0),
            token: 1
        )
        try await self.pair.end(tier)
        #expect(try await tier.write([write], in: "n") == [.refused(version: 0)])
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        guard case .written = try await tier.write([write], in: "n")[0] else {
            Issue.record("a write with its own marks is refused")
            return
        }
    }

    @Test("A value that was loaded before anything was invalidated is not written to the other tier after its removal")
    func nothingInvalidated() async throws {
        let tier = self.pair.join()
        var envelope = Envelope(codec: 1)
        envelope.mark = try await tier.read(["a"], in: "n").marks.current
        _ = try await tier.remove(["a"], in: "n", keepFor: .seconds(60))
        let write = TierWrite(
            key: "a",
            payload: envelope.encoded(for: "a", in: "n"),
            timeToLive: .seconds(60),
            condition: .version(0),
            token: 1
        )
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        #expect(try await tier.write([write], in: "n") == [.refused(version: 0)])
        #expect(tier.counts.refusedWrites == 1)
        // Nor the other way round.
        envelope.mark = try await tier.read(["a"], in: "n").marks.current
        let bytes = envelope.encoded(for: "b", in: "n")
        let other = TierWrite(key: "b", payload: bytes, timeToLive: .seconds(60), condition: .version(0), token: 1)
        guard case .written = try await tier.write([other], in: "n")[0] else {
            Issue.record("a write with its own mark is refused")
            return
        }
        try await self.pair.end(tier)
        #expect(try await tier.write([other], in: "n") == [.refused(version: 0)])
    }

    @Test("What is too much to be told apart is everything, and single changes before it are not lost")
    func bound() async throws {
        let tier = self.pair.join()
        let mark = try await tier.read([], in: "n").marks.current
        _ = try await tier.put("k1", "old")
        _ = try await tier.put("untouched", "old")
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        for number in 0..<1100 { _ = try await tier.remove(["k\(number)"], in: "n", keepFor: .seconds(60)) }
        try await self.pair.end(tier)
        #expect(tier.counts.replayed == 1)
        let marks = try await tier.read([], in: "n").marks
        #expect(!marks.admits("k1", since: mark) && !marks.admits("untouched", since: mark))
    }

    @Test("Keys of any bytes, and of any length, are told after an outage")
    func oddKeys() async throws {
        let tier = self.pair.join()
        let odd = ["", "\n", "3:abc", "ä", "a\u{308}", "日本"]
        for key in odd { _ = try await tier.put(key, "old") }
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        let gone = self.pair.join()
        await self.pair.notice(gone)
        _ = try await gone.remove(odd, in: "n", keepFor: .seconds(60))
        try await self.pair.end(tier)
        for key in odd { #expect(try await tier.text(key) == nil, "\(key)") }
        // Too long to be written down: everything.
        let long = String(repeating: "k", count: CacheLimits.maximumKey)
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        await self.pair.notice(gone)
        _ = try await gone.remove([long], in: "n", keepFor: .seconds(60))
        try await self.pair.end(tier)
        #expect(try await tier.read([], in: "n").marks.all > 0)
    }
}

@Suite("Shared caches on a tier with a fallback", .timeLimit(.minutes(5)))
struct FallbackCacheTests {
    private final class Log: CacheObserver {
        private let events = Mutex<[String]>([])
        var all: [String] { self.events.withLock { $0 } }
        func observe(_ event: CacheEvent) {
            switch event {
            case .tierFellBack(let tier, _): self.events.withLock { $0.append("out \(tier)") }
            case .tierReturned(let tier): self.events.withLock { $0.append("back \(tier)") }
            default: break
            }
        }
    }

    @Test("Values stay shared through an outage, and nothing removed meanwhile comes back after it")
    func wholeOutage() async throws {
        let (pair, log) = (TierPair(), Log())
        let bus = MemoryCacheBus(clock: pair.clock)
        // The secondary's numbers are far above the primary's.
        for number in 0..<200 {
            _ = try await pair.secondary.invalidate(.tag("\(number)"), in: "pages", keepFor: .seconds(36000))
        }
        func process() throws -> (CacheService, SharedCache<String, String>) {
            let service = try CacheService(tier: pair.join(), bus: bus, observer: log, clock: pair.clock)
            let options = CacheOptions().with { $0.timeToLive = .seconds(36000) }
            return (
                service,
                try service.sharedCache("pages", of: String.self, keyedBy: String.self) { $0.options = options }
            )
        }
        let ((one, a), (two, b)) = (try process(), try process())
        func load(_ cache: SharedCache<String, String>, _ key: String, _ value: String) async throws -> String {
            try await cache.value(for: key) { value }
        }
        try await withCacheService(one) { _ in
            try await withCacheService(two) { _ in
                #expect(await eventually { one.isListening && two.isListening })
                for key in ["kept", "removed", "set"] { #expect(try await load(a, key, "1") == "1") }
                pair.primary.fault = .fail
                for cache in [a, b] { for number in 0..<5 { _ = try? await cache.get("x\(number)") } }
                #expect(one.report().hasFallenBack == true && two.report().hasFallenBack == true)
                // Shared by the secondary.
                #expect(try await load(a, "new", "2") == "2")
                #expect(try await load(b, "new", "3") == "2")
                try await b.remove("removed")
                try await b.set("4", for: "set")
                #expect(await eventually { a.cached("removed") == nil && a.cached("set") == nil })
                pair.primary.fault = .none
                pair.clock.advance(by: .seconds(61))
                for cache in [a, b] { _ = try await cache.get("y") }
                #expect(one.report().hasFallenBack == false && two.report().hasFallenBack == false)
                #expect(try await a.get("kept") == "1")
                #expect(try await a.get("removed") == nil)
                #expect(try await a.get("set") == nil)
                // What is in memory from the secondary, with its high numbers, hears of changes in the primary.
                #expect(a.cached("new") == "2")
                try await b.set("5", for: "new")
                #expect(await eventually { a.cached("new") == nil })
                #expect(try await a.get("new") == "5")
                #expect(log.all.sorted() == ["back one+two", "back one+two", "out one+two", "out one+two"])
            }
        }
    }
}
