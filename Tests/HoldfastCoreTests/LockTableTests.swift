// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@Suite struct LockTableTests {
    @Test("A free resource is granted, a taken one is not, and tokens rise")
    func basics() throws {
        var bench = TableBench()
        let first = bench.request("x", contention: .fail)
        #expect(try bench.acquire(first) == .granted(FencingToken(rawValue: 1)))
        guard case .busy(let blockers) = try bench.acquire(bench.request("x", contention: .fail)) else {
            Issue.record("granted twice")
            return
        }
        #expect(blockers.map(\.reference) == [first.id.reference])
        #expect(bench.table.release(first.key, at: bench.now, signals: &bench.signals) == .released)
        #expect(bench.table.count == 0)
        #expect(try bench.acquire(bench.request("x")) == .granted(FencingToken(rawValue: 2)))
        #expect(try bench.acquire(bench.request("y")) == .granted(FencingToken(rawValue: 3)))
    }

    @Test("A table starts above the token that it is given")
    func firstToken() throws {
        var bench = TableBench()
        bench.table = LockTable(lastToken: FencingToken(rawValue: 1000))
        #expect(try bench.acquire(bench.request("x")) == .granted(FencingToken(rawValue: 1001)))
    }

    @Test("A hand-over that is not accepted ends as if it had never been, at its acceptance time exactly")
    func acceptance() throws {
        var bench = TableBench()
        let held = bench.request("x")
        let dead = bench.request("x", acceptance: .seconds(1), lockDelay: .seconds(30))
        let next = bench.request("x")
        _ = try bench.acquire(held)
        _ = try bench.acquire(dead)
        _ = try bench.acquire(next)
        #expect(bench.table.release(held.key, at: bench.now, signals: &bench.signals) == .released)
        #expect(bench.takeSignals() == [.granted(dead.id), .check(next.id, after: .seconds(1))])
        bench.pass(.milliseconds(999))
        guard case .waiting = try bench.acquire(next) else {
            Issue.record("too early")
            return
        }
        bench.pass(.milliseconds(1))
        guard case .granted = try bench.acquire(next) else {
            Issue.record("too late, or the resource rests after a hold that was never accepted")
            return
        }
        #expect(bench.takeSignals() == [.granted(next.id)])
    }

    @Test("A lease ends at its time exactly, and not before")
    func expiry() throws {
        var bench = TableBench()
        let held = bench.request("x", lease: .seconds(5))
        _ = try bench.acquire(held)
        bench.pass(.seconds(5) - .nanoseconds(1))
        #expect(bench.status("x").holders.count == 1)
        #expect(bench.renew(held) == .renewed(revokeRequested: false))
        bench.pass(.seconds(5))
        #expect(bench.status("x").isFree)
        #expect(bench.renew(held) == .lost(.expired))
        #expect(bench.table.count == 0)
    }

    @Test("The resource rests from the end of the lease, not from when that is noticed")
    func rest() throws {
        var bench = TableBench()
        _ = try bench.acquire(bench.request("x", lease: .seconds(5), lockDelay: .seconds(10)))
        bench.pass(.seconds(12))
        #expect(try bench.acquire(bench.request("x", contention: .fail)) == .busy(blockers: []))
        #expect(bench.status("x").restingFor == .seconds(3))
        let waiter = bench.request("x")
        guard case .waiting(let place) = try bench.acquire(waiter) else {
            Issue.record("granted while resting")
            return
        }
        #expect(place.checkAfter == .seconds(3) + Limits.checkSpread)
        bench.pass(.seconds(3))
        guard case .granted = try bench.acquire(waiter) else {
            Issue.record("it rests for too long")
            return
        }
    }

    @Test("Waiters ask again one after the other, and not too late")
    func checkSpread() throws {
        var bench = TableBench()
        _ = try bench.acquire(bench.request("x", lease: .seconds(5)))
        for position in 0..<150 {
            guard case .waiting(let place) = try bench.acquire(bench.request("x")) else {
                Issue.record("no place")
                return
            }
            #expect(place.position == position)
            let spread = min(Limits.checkSpread * (position + 1), Limits.maximumCheckSpread)
            #expect(place.checkAfter == .seconds(5) + spread)
        }
    }

    @Test("Priority is a head start and not a privilege: who waited for longer than that stays before")
    func priority() throws {
        var bench = TableBench()
        _ = try bench.acquire(bench.request("x", lease: .seconds(600)))
        let old = bench.request("x")
        _ = try bench.acquire(old)
        bench.pass(.seconds(10) - .nanoseconds(1))
        let early = bench.request("x", priority: 10)
        _ = try bench.acquire(early)
        bench.pass(.nanoseconds(1))
        let late = bench.request("x", priority: 10)
        _ = try bench.acquire(late)
        #expect(bench.status("x").waiters.map(\.reference) == [early, old, late].map(\.id.reference))
    }

    @Test("A reader that stands before the waiting writer by its priority is granted at once")
    func priorityReader() throws {
        var bench = TableBench()
        _ = try bench.acquire(bench.request("x", mode: .shared))
        _ = try bench.acquire(bench.request("x"))
        guard case .granted = try bench.acquire(bench.request("x", mode: .shared, priority: 1)) else {
            Issue.record("a reader at the head of the queue that fits was left waiting")
            return
        }
        guard case .waiting = try bench.acquire(bench.request("x", mode: .shared)) else {
            Issue.record("a reader overtook the writer")
            return
        }
    }

    @Test("Late copies of requests that ended get nothing, as long as they are remembered")
    func tombstones() throws {
        var bench = TableBench()
        let released = bench.request("x")
        _ = try bench.acquire(released)
        _ = bench.table.release(released.key, at: bench.now, signals: &bench.signals)
        #expect(try bench.acquire(released) == .finished)
        let withdrawn = bench.request("x")
        #expect(bench.table.withdraw(withdrawn.key, at: bench.now, signals: &bench.signals) == .notFound)
        #expect(try bench.acquire(withdrawn) == .finished)
        let forced = bench.request("x")
        _ = try bench.acquire(forced)
        #expect(bench.table.forceRelease("x", at: bench.now, signals: &bench.signals).count == 1)
        #expect(try bench.acquire(forced) == .finished)
        for _ in 0..<Limits.rememberedRequests {
            _ = bench.table.withdraw(bench.request("y").key, at: bench.now, signals: &bench.signals)
        }
        guard case .granted = try bench.acquire(released) else {
            Issue.record("memory grows without bound")
            return
        }
    }

    @Test("An upgrade brings a new token, a downgrade keeps it")
    func conversion() throws {
        var bench = TableBench()
        let held = bench.request("x", mode: .update)
        #expect(try bench.acquire(held) == .granted(FencingToken(rawValue: 1)))
        #expect(bench.convert(held, to: .exclusive) == .converted(FencingToken(rawValue: 2)))
        #expect(bench.convert(held, to: .exclusive) == .converted(FencingToken(rawValue: 2)))
        #expect(bench.convert(held, to: .shared) == .converted(FencingToken(rawValue: 2)))
        let reader = bench.request("x", mode: .shared)
        _ = try bench.acquire(reader)
        guard case .busy(let blockers) = bench.convert(held, to: .exclusive) else {
            Issue.record("upgraded beside a reader")
            return
        }
        #expect(blockers.map(\.reference) == [reader.id.reference])
        #expect(bench.convert(bench.request("x"), to: .shared) == .lost)
    }

    @Test("A survey is paged in the order of names")
    func survey() throws {
        var bench = TableBench()
        for number in 0..<2500 { _ = try bench.acquire(bench.request(Resource(escaping: "r\(number)"))) }
        _ = try bench.acquire(bench.request("other"))
        var names: [String] = []
        var pages = 0
        var cursor: SurveyPage.Cursor?
        repeat {
            let page = bench.table.survey("r*", after: cursor, at: bench.now)
            names += page.resources.map(\.resource.name)
            cursor = page.next
            pages += 1
        } while cursor != nil
        #expect(pages == 3 && names.count == 2500 && names == names.sorted())
    }

    @Test("Sweeping ends what nobody asks about, and hands on")
    func sweep() throws {
        var bench = TableBench()
        _ = try bench.acquire(bench.request("x", lease: .seconds(5)))
        let waiter = bench.request("x")
        _ = try bench.acquire(waiter)
        _ = try bench.acquire(bench.request("y", lease: .seconds(5)))
        bench.pass(.seconds(5))
        bench.table.expire(at: bench.now, signals: &bench.signals)
        #expect(bench.takeSignals() == [.granted(waiter.id)])
        #expect(bench.table.count == 1)
    }
}
