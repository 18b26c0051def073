// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Messages of the bus")
struct BusMessageTests {
    private let message = BusMessage(
        origin: .max,
        sequence: 7,
        namespace: "products",
        changes: [
            .changed(key: "a/ü", version: 1), .refreshed(key: "", version: .max),
            .invalidated(.tag("t"), mark: 3), .invalidated(.prefix("a/"), mark: 4), .invalidated(.all, mark: 5),
        ]
    )

    @Test("come back as they were")
    func roundTrip() { #expect(BusMessage(self.message.encoded) == self.message) }

    @Test("that were cut are refused or shorter, and never something else")
    func cut() {
        let bytes = self.message.encoded
        for length in 0..<bytes.count {
            guard let other = BusMessage(Array(bytes.prefix(length))) else { continue }
            #expect(other.changes == Array(self.message.changes.prefix(other.changes.count)))
        }
    }

    @Test("of a newer version say that there is something unknown")
    func unknown() {
        var bytes = BusMessage(origin: 1, sequence: 1, namespace: "n", changes: []).encoded
        bytes += [99, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x61]
        #expect(BusMessage(bytes)?.changes == [.unknown])
        bytes[3] = 2
        #expect(BusMessage(bytes) == nil)
    }

    @Test("any bytes are refused or read without harm")
    func fuzz() {
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...80, using: &generator)
            let bytes = [0x48, 0x46, 0x42, 1] + (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            _ = BusMessage(bytes)
        }
    }

    @Test("that are missing are noticed, and repeated ones are not taken twice")
    func ledger() {
        var ledger = BusLedger()
        // The last two are of somebody who had spoken before we listened.
        let messages: [(UInt64, UInt64)] = [(1, 1), (1, 2), (1, 2), (1, 4), (1, 3), (1, 5), (2, 9), (2, 10)]
        let verdicts = messages.map { ledger.take(origin: $0.0, sequence: $0.1) }
        #expect(verdicts == [.next, .next, .repeated, .gap, .repeated, .next, .gap, .next])
    }

    @Test("of senders without end take no memory without end")
    func manySenders() {
        var ledger = BusLedger()
        let first = (0..<10_000).map { ledger.take(origin: UInt64($0), sequence: 1) }
        #expect(first.allSatisfy { $0 == .next })
        let known = ledger.take(origin: 9999, sequence: 1)
        let forgotten = ledger.take(origin: 0, sequence: 2)
        #expect(known == .repeated)
        #expect(forgotten == .gap)
    }
}

@Suite("What waits to be told on the bus")
struct BusOutboxTests {
    @Test("of several changes of a key, that with the highest version is told, whichever came last")
    func highest() {
        var outbox = BusOutbox(origin: 1)
        for version: UInt64 in [3, 5, 4] {
            outbox.add(.changed(key: "k", version: version), in: "n")
            outbox.add(.refreshed(key: "k", version: version + 10), in: "n")
            outbox.add(.changed(key: "other", version: version), in: "n")
        }
        let message = outbox.next()
        #expect(
            message?.changes == [
                .changed(key: "k", version: 5), .refreshed(key: "k", version: 15), .changed(key: "other", version: 5),
            ]
        )
        #expect(outbox.isEmpty)
    }

    @Test("of two tiers whose versions cannot be compared, the highest of each is told")
    func sides() {
        var outbox = BusOutbox(origin: 1, hasSides: true)
        for version: UInt64 in [4, 7, 6, 5, 2] { outbox.add(.changed(key: "k", version: version), in: "n") }
        let changes = outbox.next()?.changes
        #expect(changes == [.changed(key: "k", version: 6), .changed(key: "k", version: 7)])
    }

    @Test("an invalidation that waits to be told is told once, with its highest mark, for each cache and scope")
    func invalidations() {
        var outbox = BusOutbox(origin: 1)
        for mark: UInt64 in 1...1000 {
            let scopes: [InvalidationScope] = [.tag("t"), .tag("other"), .prefix("t"), .all]
            for scope in scopes { outbox.add(.invalidated(scope, mark: mark), in: "n") }
        }
        outbox.add(.invalidated(.tag("t"), mark: 999), in: "n")
        outbox.add(.invalidated(.tag("t"), mark: 1), in: "m")
        #expect(
            outbox.next()?.changes == [
                .invalidated(.tag("t"), mark: 1000), .invalidated(.tag("other"), mark: 1000),
                .invalidated(.prefix("t"), mark: 1000), .invalidated(.all, mark: 1000),
            ]
        )
        #expect(outbox.next()?.changes == [.invalidated(.tag("t"), mark: 1)])
        // What was told does not wait any more: it is told again.
        outbox.add(.invalidated(.tag("t"), mark: 1001), in: "n")
        #expect(outbox.next()?.changes == [.invalidated(.tag("t"), mark: 1001)])
        #expect(outbox.next() == nil)
    }
}

@Suite("Circuit breaker")
struct CircuitBreakerTests {
    private static let second: Int64 = 1_000_000_000

    private static func open() -> CircuitBreaker {
        var breaker = CircuitBreaker()
        for _ in 0..<CircuitBreaker.threshold { _ = breaker.failed(at: 0) }
        return breaker
    }

    @Test("opens after three failures in a row, lets one try after a second, and closes when that succeeds")
    func cycle() {
        var breaker = CircuitBreaker()
        var opened = [breaker.failed(at: 0), breaker.failed(at: 0)]
        breaker.succeeded()
        opened += [breaker.failed(at: 0), breaker.failed(at: 0), breaker.failed(at: 0)]
        #expect(opened == [false, false, false, false, true])
        let admitted = [Self.second - 1, Self.second, Self.second].map { breaker.admits(at: $0) }
        #expect(admitted == [false, true, false])
        breaker.succeeded()
        #expect(breaker.phase == .closed)
    }

    @Test("stays open twice as long after each trial that fails, half a minute at most")
    func backOff() {
        var breaker = Self.open()
        var now: Int64 = 0
        for pause: Int64 in [1, 2, 4, 8, 16, 30, 30] {
            let early = breaker.admits(at: now + pause * Self.second - 1)
            now += pause * Self.second
            let late = breaker.admits(at: now)
            let opensAgain = breaker.failed(at: now)
            #expect(!early && late && opensAgain)
        }
    }

    @Test("opens at the first failure that took long, unless something else came through meanwhile")
    func silence() {
        var breaker = CircuitBreaker()
        breaker.succeeded(at: Self.second)
        let quick = breaker.failed(at: 2 * Self.second, after: CircuitBreaker.silence - 1)
        // One slow call among others that come through says nothing of the service.
        breaker.succeeded(at: 5 * Self.second)
        let alone = breaker.failed(at: 6 * Self.second, after: 2 * Self.second)
        let silent = breaker.failed(at: 7 * Self.second, after: 2 * Self.second)
        #expect(!quick && !alone && silent)
    }

    @Test("has the next call find out when it is doubted, unless a call came through meanwhile")
    func doubt() {
        var breaker = CircuitBreaker()
        breaker.succeeded(at: 2)
        breaker.doubt(since: 1)
        let believed = breaker.admission(at: 3)
        breaker.doubt(since: 2)
        let phase = breaker.phase
        let admissions = [breaker.admission(at: 3), breaker.admission(at: 3)]
        breaker.succeeded(at: 4)
        let after = breaker.admission(at: 4)
        #expect(believed == .passes && phase == .closed && after == .passes)
        #expect(admissions == [.tries, .refused])
    }

    @Test("stays open no longer than it was made for")
    func shortPause() {
        var breaker = CircuitBreaker(longestPause: Self.second)
        _ = breaker.failed(at: 0, after: Self.second)
        for second: Int64 in 1...5 {
            let admission = breaker.admission(at: second * Self.second)
            _ = breaker.failed(at: second * Self.second)
            #expect(admission == .tries)
        }
    }

    @Test("lets the next try when who tries is cancelled")
    func withdrawn() {
        var breaker = Self.open()
        let first = breaker.admission(at: Self.second)
        breaker.withdrew(at: Self.second + 1)
        let second = breaker.admission(at: Self.second + 1)
        #expect(first == .tries && second == .tries)
        breaker.succeeded(at: Self.second + 2)
        breaker.withdrew(at: Self.second + 3)
        #expect(breaker.phase == .closed)
    }

    @Test("does not wait for ever for who tries and vanishes")
    func vanished() {
        var breaker = Self.open()
        let admitted = [1, 10, 11].map { breaker.admits(at: $0 * Self.second) }
        #expect(admitted == [true, false, true])
    }

    @Test("waits for who tries as long as he shows progress")
    func progress() {
        var breaker = Self.open()
        let admitted = [1, 10, 19, 28, 38].map { (time: Int64) -> Bool in
            let isAdmitted = breaker.admits(at: time * Self.second)
            if time < 28 { breaker.progressed(at: time * Self.second) }
            return isAdmitted
        }
        #expect(admitted == [true, false, false, false, true])
    }
}
