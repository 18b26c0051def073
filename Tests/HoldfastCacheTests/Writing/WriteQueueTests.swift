// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastCache

private typealias Queue = WriteQueue<String, String>

/// A queue of a test, with its time.
private struct Bench {
    var queue: Queue
    var generator = SeededGenerator(seed: 1)
    var now: Int64 = 0
    private var version: UInt64 = 0

    init(_ configure: (inout WriteBehindOptions) -> Void = { _ in }) {
        var options = WriteBehindOptions()
        options.maximumDelay = .seconds(1)
        options.shortestPause = .seconds(1)
        options.longestPause = .seconds(10)
        configure(&options)
        self.queue = Queue(options)
    }

    mutating func offer(_ key: String, _ action: CacheAction<String>) {
        self.version += 1
        self.queue.offer(action, for: key, version: self.version, now: self.now)
    }

    mutating func offer(_ key: String, _ value: String) { self.offer(key, .set(value)) }

    mutating func batch() -> [CacheChange<String, String>] { self.queue.nextBatch(now: self.now) }

    mutating func finish(_ batch: [CacheChange<String, String>], _ outcome: Queue.Outcome) -> Queue.Verdict {
        self.queue.finish(batch, outcome, now: self.now, using: &self.generator)
    }

    mutating func advance(_ seconds: Int64) { self.now += seconds * 1_000_000_000 }
}

private let broken = Queue.Outcome.failed(Queue.Failure(error: Failure()))

@Suite("The queue of changes")
struct WriteQueueTests {
    @Test("a change waits for others, but not for long, and a full batch does not wait")
    func batching() {
        var bench = Bench { $0.maximumBatch = 2 }
        bench.offer("a", "1")
        #expect(bench.batch().isEmpty)
        #expect(bench.queue.nextLook == 1_000_000_000)
        bench.advance(1)
        #expect(bench.batch().map(\.key) == ["a"])
        bench.offer("b", "1")
        #expect(bench.batch().isEmpty)
        bench.offer("c", "1")
        #expect(bench.batch().map(\.key) == ["b", "c"])
        #expect(bench.queue.nextLook == nil)
    }

    @Test("a drain does not wait for more to come")
    func draining() {
        var bench = Bench()
        bench.offer("a", "1")
        bench.queue.isDraining = true
        #expect(bench.batch().count == 1)
    }

    @Test("the last of several changes is written, once")
    func coalescing() {
        var bench = Bench()
        bench.offer("a", "1")
        bench.offer("a", .remove)
        bench.offer("a", "3")
        bench.advance(1)
        let batch = bench.batch()
        #expect(batch == [CacheChange(key: "a", action: .set("3"), version: 3)])
        #expect(bench.finish(batch, .written).written == batch)
        #expect(bench.queue.count == 0)
        #expect(bench.queue.counts.coalesced == 2)
    }

    @Test("a key that is under way is not sent again before that has ended")
    func oneInFlight() {
        var bench = Bench()
        bench.offer("a", "1")
        bench.advance(1)
        let first = bench.batch()
        bench.offer("a", "2")
        bench.advance(100)
        #expect(bench.batch().isEmpty)
        #expect(bench.queue.pending("a") == .set("2"))
        _ = bench.finish(first, .written)
        #expect(bench.batch() == [CacheChange(key: "a", action: .set("2"), version: 2)])
    }

    @Test("a failed change does not come after a newer one of its key")
    func failureAndSuccessor() {
        var bench = Bench()
        bench.offer("a", "1")
        bench.advance(1)
        let first = bench.batch()
        bench.offer("a", "2")
        _ = bench.finish(first, broken)
        bench.advance(100)
        #expect(bench.batch().map(\.version) == [2])
        bench.advance(100)
        #expect(bench.batch().isEmpty)
    }

    @Test("a source that fails is left alone for a while, by all")
    func rest() throws {
        var bench = Bench { $0.maximumBatch = 2 }
        for key in ["a", "b", "c", "d"] { bench.offer(key, "1") }
        _ = bench.finish(bench.batch(), broken)
        #expect(bench.batch().isEmpty)
        let next = try #require(bench.queue.nextLook)
        #expect(next >= 1_000_000_000)
        bench.now = next
        #expect(bench.batch().count == 1)
    }

    @Test("one change that fails does not hold up the others")
    func partial() {
        var bench = Bench()
        for key in ["a", "b"] { bench.offer(key, "1") }
        bench.advance(1)
        let verdict = bench.finish(bench.batch(), .partial(["a": Queue.Failure(error: Failure())]))
        #expect(verdict.written.map(\.key) == ["b"])
        bench.offer("c", "1")
        bench.queue.isDraining = true
        #expect(bench.batch().map(\.key) == ["c"])
    }

    @Test("a change that the source cannot take is found, and the others are written", arguments: [1, 3, 10])
    func poison(attempts: Int) {
        var bench = Bench { $0.maximumAttempts = attempts }
        for number in 0..<50 { bench.offer("k\(number)", "1") }
        bench.queue.isDraining = true
        var written: Set<String> = []
        var parked: [DeadLetter<String, String>] = []
        for _ in 0..<2000 where bench.queue.count > 0 {
            let batch = bench.batch()
            if batch.isEmpty {
                bench.advance(1)
                continue
            }
            let verdict = bench.finish(batch, batch.contains { $0.key == "k7" } ? broken : .written)
            written.formUnion(verdict.written.map(\.key))
            parked += verdict.parked
        }
        #expect(written.count == 49)
        #expect(parked.map(\.change.key) == ["k7"])
        #expect(parked.first?.change.attempt ?? 0 >= attempts)
    }

    @Test("an error that is permanent parks a change at once, but not those that were with it")
    func permanent() {
        var bench = Bench()
        let refusal = Queue.Failure(error: Failure(), isPermanent: true)
        for key in ["a", "b"] { bench.offer(key, "1") }
        bench.advance(1)
        #expect(bench.finish(bench.batch(), .failed(refusal)).parked.isEmpty)
        bench.advance(20)
        let second = bench.batch()
        #expect(second.count == 1)
        #expect(bench.finish(second, .failed(refusal)).parked.map(\.change) == second)
        bench.advance(20)
        let third = bench.batch()
        #expect(bench.finish(third, .written).written == third)
        #expect(bench.queue.count == 0)
    }

    @Test("dead letters are bounded, and what does not fit is not dropped")
    func boundedLetters() {
        var bench = Bench {
            $0.maximumDeadLetters = 2
            $0.maximumAttempts = 1
        }
        for number in 0..<5 { bench.offer("k\(number)", "1") }
        for _ in 0..<200 {
            let batch = bench.batch()
            if !batch.isEmpty { _ = bench.finish(batch, broken) }
            bench.advance(1)
        }
        #expect(bench.queue.letters.count == 2)
        #expect(bench.queue.count == 3)
        bench.advance(60)
        let batch = bench.batch()
        #expect(bench.finish(batch, .written).written.count == 1)
    }

    @Test("a newer change takes the place of a dead letter, and a retried one is as good as new")
    func letters() {
        var bench = Bench { $0.maximumAttempts = 1 }
        for key in ["a", "b"] {
            bench.offer(key, "1")
            bench.advance(20)
            _ = bench.finish(bench.batch(), broken)
        }
        #expect(bench.queue.letters.count == 2)
        bench.offer("a", "2")
        #expect(Set(bench.queue.letters.keys) == ["b"])
        #expect(bench.queue.revive(["a", "b"], now: bench.now) == 1)
        bench.advance(20)
        let first = bench.batch()
        bench.advance(20)
        let second = bench.batch()
        #expect(Set((first + second).map(\.version)) == [2, 3])
    }

    @Test("two records of a journal that are of one key are one change, the later")
    func restoredTwice() {
        var bench = Bench()
        for version in [1, 2] as [UInt64] {
            bench.queue.restore(.set("\(version)"), for: "a", version: version, isParked: version == 2, now: 0)
        }
        bench.advance(1)
        #expect(bench.batch().map(\.version) == [2])
        bench.advance(100)
        #expect(bench.queue.nextLook == nil && bench.queue.letters.isEmpty)
    }

    @Test("a call that was stopped counts as none")
    func interrupted() {
        var bench = Bench { $0.maximumAttempts = 1 }
        bench.offer("a", "1")
        bench.advance(1)
        let verdict = bench.finish(bench.batch(), .interrupted)
        #expect(verdict.parked.isEmpty && verdict.written.isEmpty)
        #expect(bench.batch().map(\.attempt) == [1])
    }
}

/// Random steps of a queue, against a source that is written so and a model that only knows the last change of each key.
private struct Harness {
    var queue: Queue
    var generator: SeededGenerator
    var now: Int64 = 0
    var version: UInt64 = 0
    /// The last change of each key, and what has become of it.
    var last: [String: (action: CacheAction<String>, version: UInt64)] = [:]
    var settled: Set<UInt64> = []
    var source: [String: (action: CacheAction<String>, version: UInt64)] = [:]
    var underWay: [[CacheChange<String, String>]] = []

    init(seed: UInt64) {
        self.generator = SeededGenerator(seed: seed)
        var options = WriteBehindOptions()
        options.maximumBatch = Int.random(in: 1...5, using: &self.generator)
        options.maximumDelay = .milliseconds(Int.random(in: 0...20, using: &self.generator))
        options.shortestPause = .milliseconds(1)
        options.longestPause = .milliseconds(20)
        options.maximumAttempts = [1, 2, 5, nil].randomElement(using: &self.generator) ?? nil
        options.maximumDeadLetters = Int.random(in: 1...4, using: &self.generator)
        self.queue = Queue(options)
    }

    mutating func step() {
        self.now += Int64.random(in: 0...5_000_000, using: &self.generator)
        switch Int.random(in: 0..<20, using: &self.generator) {
        case 0..<8:
            let key = "k\(Int.random(in: 0..<8, using: &self.generator))"
            self.version += 1
            let action: CacheAction<String> =
                Bool.random(using: &self.generator) ? .set("v\(self.version)") : .remove
            self.queue.offer(action, for: key, version: self.version, now: self.now)
            self.last[key] = (action, self.version)
        case 8..<13 where self.underWay.count < 3: self.send()
        case 13..<18: self.end()
        case 18: _ = self.queue.revive(Array(self.queue.letters.keys.sorted().prefix(1)), now: self.now)
        default:
            let key = Array(self.queue.letters.keys.sorted().prefix(1))
            self.settled.formUnion(self.queue.discard(key))
        }
        self.check()
    }

    private mutating func send() {
        let batch = self.queue.nextBatch(now: self.now)
        guard !batch.isEmpty else { return }
        #expect(batch.count <= self.queue.options.maximumBatch)
        let keys = self.underWay.joined().map(\.key) + batch.map(\.key)
        #expect(Set(keys).count == keys.count, "two changes of a key are under way")
        self.underWay.append(batch)
    }

    private mutating func end(works: Bool = false) {
        guard let place = self.underWay.indices.randomElement(using: &self.generator) else { return }
        let batch = self.underWay.remove(at: place)
        let failure = Queue.Failure(error: Failure(), isPermanent: Int.random(in: 0..<5, using: &self.generator) == 0)
        var outcome = Queue.Outcome.written
        var lost: Set<String> = []
        switch works ? 0 : Int.random(in: 0..<4, using: &self.generator) {
        case 0: break
        case 1:
            lost = Set(batch.map(\.key).filter { _ in Bool.random(using: &self.generator) })
            if !lost.isEmpty { outcome = .partial(Dictionary(uniqueKeysWithValues: lost.map { ($0, failure) })) }
        case 2: outcome = .interrupted
        default: outcome = .failed(failure)
        }
        if case .failed = outcome, Bool.random(using: &self.generator) {
            lost = Set(batch.map(\.key))
        }
        // What failed may have been written all the same.
        for change in batch where !lost.contains(change.key) {
            #expect(self.source[change.key]?.version ?? 0 <= change.version, "an older change came after a newer one")
            self.source[change.key] = (change.action, change.version)
        }
        let verdict = self.queue.finish(batch, outcome, now: self.now, using: &self.generator)
        self.settled.formUnion(verdict.written.map(\.version))
        let isItsOwn = if case .partial = outcome { true } else { batch.count == 1 }
        #expect(isItsOwn || verdict.parked.isEmpty, "parked for another's failure")
    }

    private func check() {
        #expect(self.queue.letters.count <= self.queue.options.maximumDeadLetters)
        for (key, last) in self.last {
            let isDead = self.queue.letters[key]?.change.version == last.version
            let pending = self.queue.pending(key)
            if let pending { #expect(pending == last.action, "the last change does not win") }
            #expect(pending != nil || isDead || self.settled.contains(last.version), "a change was lost")
            #expect(!(pending != nil && isDead))
        }
    }

    mutating func drain() {
        self.queue.isDraining = true
        _ = self.queue.revive(Array(self.queue.letters.keys), now: self.now)
        let discarded = self.settled
        for _ in 0..<1000 where self.queue.count > 0 {
            self.now += 100_000_000
            self.send()
            self.end(works: true)
        }
        #expect(self.queue.count == 0)
        for (key, last) in self.last where !discarded.contains(last.version) {
            #expect(self.source[key]?.version == last.version)
            #expect(self.source[key]?.action == last.action)
        }
        #expect(self.queue.nextLook == nil)
    }
}

@Suite("The queue of changes, by chance")
struct WriteQueueModelTests {
    @Test(
        "loses nothing, reorders nothing, and ends with the last change of each key",
        arguments: 0..<100 as Range<UInt64>
    )
    func model(seed: UInt64) {
        var harness = Harness(seed: seed)
        for _ in 0..<400 { harness.step() }
        harness.drain()
    }
}
