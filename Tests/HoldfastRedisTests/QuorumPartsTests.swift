// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import Testing

@Suite("The parts of a majority")
struct QuorumPartsTests {
    private typealias Vote = AcquireTally.Vote

    private static func granted(_ token: UInt64, counts: Bool = true) -> Vote {
        .granted(FencingToken(rawValue: token), counts: counts)
    }

    private static func holder(_ reference: String?, remaining: Duration = .seconds(5)) -> Holder {
        Holder(
            reference: reference,
            owner: nil,
            mode: .exclusive,
            fencingToken: nil,
            heldFor: .seconds(1),
            remaining: remaining,
            isAccepting: false
        )
    }

    private static func blocked(_ references: String?..., after: Duration = .seconds(1)) -> Vote {
        .blocked(
            AcquireReply.Waiting(position: 0, checkAfter: after, blockers: references.map { Self.holder($0) })
        )
    }

    private static let silent = Vote.silent(LockError(.storeUnavailable, "down"))

    // MARK: - Acquiring

    @Test(arguments: [(3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
    func `a majority is more than half`(count: Int, majority: Int) {
        #expect(AcquireTally.majority(of: count) == majority)
    }

    @Test
    func `a majority decides without the rest`() {
        #expect(AcquireTally.outcome(of: [Self.granted(1), nil, nil]) == nil)
        guard case .granted(let given)? = AcquireTally.outcome(of: [Self.granted(1), nil, Self.granted(3)]) else {
            Issue.record("two of three are a majority")
            return
        }
        #expect(given.keys.sorted() == [0, 2])
        guard case .blocked? = AcquireTally.outcome(of: [Self.blocked("a"), nil, Self.blocked("a")]) else {
            Issue.record("two of three are a majority against, too")
            return
        }
    }

    @Test
    func `a server that may have forgotten the holder does not vote`() {
        let votes = [Self.granted(1, counts: false), Self.granted(2, counts: false), Self.granted(3)]
        guard case .failed(let error)? = AcquireTally.outcome(of: votes) else {
            Issue.record("servers that are too young let somebody in")
            return
        }
        #expect(error.code == .storeUnavailable)
        #expect(error.message.contains("guard=off"))
        guard
            case .blocked? = AcquireTally.outcome(of: [
                Self.granted(1, counts: false), Self.blocked("a"), Self.granted(3),
            ])
        else {
            Issue.record("one holder is known, and the rest is no majority")
            return
        }
    }

    @Test
    func `no majority that answers is an error that says so`() {
        guard case .failed(let error)? = AcquireTally.outcome(of: [Self.granted(1), Self.silent, Self.silent]) else {
            Issue.record("one of three granted")
            return
        }
        #expect(error.message.contains("2 of 3 Redis servers do not answer"))
        #expect(AcquireTally.outcome(of: [Self.blocked("a"), Self.silent, nil]) == nil)
    }

    @Test
    func `a split vote is asked again soon, a holder is waited for`() {
        guard
            case .blocked(_, isSplit: true)? = AcquireTally.outcome(of: [
                Self.granted(1), Self.blocked("b"), Self.blocked("c"),
            ])
        else {
            Issue.record("three contenders, nobody has two")
            return
        }
        let held = [Self.granted(1), Self.blocked("b", after: .seconds(9)), Self.blocked("b", after: .seconds(4))]
        guard case .blocked(let place, isSplit: false)? = AcquireTally.outcome(of: held) else {
            Issue.record("b has a majority")
            return
        }
        #expect(place.checkAfter == .seconds(4), "one more server suffices")
        #expect(place.blockers.map(\.reference) == ["b"])
        guard
            case .blocked(_, isSplit: false)? = AcquireTally.outcome(of: [
                Self.blocked(nil), Self.blocked(nil), Self.granted(1),
            ])
        else {
            Issue.record("a foreign client has a majority")
            return
        }
        guard
            case .blocked(_, isSplit: false)? = AcquireTally.outcome(of: [
                Self.blocked(), Self.blocked(), Self.granted(1),
            ])
        else {
            Issue.record("two servers let it rest")
            return
        }
    }

    @Test
    func `a server that still gives up the last try has no vote and is no outage`() {
        guard case .blocked(_, isSplit: true)? = AcquireTally.outcome(of: [.undoing, .undoing, Self.granted(1)]) else {
            Issue.record("it is asked again")
            return
        }
    }

    @Test
    func `a server that this try does not ask is not marked by it, since nobody would take the mark away`() {
        let votes: [Vote?] = [nil, Self.granted(1), Self.silent, Self.blocked("a"), nil]
        #expect(AcquireTally.mayHold(votes, unasked: []) == [0, 1, 2, 4])
        #expect(AcquireTally.mayHold(votes, unasked: [4]) == [0, 1, 2])
        #expect(AcquireTally.mayHold(votes, unasked: [0, 4]) == [1, 2])
    }

    // MARK: - Renewing

    @Test
    func `renewals count for each grant by itself`() {
        let yes = RenewReply.renewed(revokeRequested: false)
        let no = RenewReply.lost(.expired)
        let tally = RenewTally(
            [
                .success([yes, no, yes, .unknown]), .success([yes, no, no, yes]),
                .failure(LockError(.storeUnavailable, "")),
            ],
            count: 4
        )
        #expect(tally.replies == [yes, no, .unknown, .unknown])
        #expect(!tally.isSettled)
        let asked = RenewTally([.success([yes]), .success([.renewed(revokeRequested: true)]), nil], count: 1)
        #expect(asked.replies == [.renewed(revokeRequested: true)])
        #expect(asked.isSettled)
    }

    // MARK: - Clocks

    @Test
    func `a clock that jumps or is far from the others is an alarm, once`() {
        let start = ContinuousClock.now
        var watch = ClockWatch(nodes: 3, origin: start)
        let epoch: Duration = .seconds(1_800_000_000)
        func read(_ node: Int, at second: Int, ahead: Duration = .zero) -> ClockWatch.Alarm? {
            let sent = start.advanced(by: .seconds(second))
            return watch.read(
                epoch + .seconds(second) + .microseconds(200) + ahead,
                of: node,
                sent: sent,
                received: sent.advanced(by: .microseconds(400))
            )
        }
        #expect(watch.floor(at: start) == 0, "nothing is known")
        for node in 0..<3 { #expect(read(node, at: 0) == nil) }
        #expect(watch.skew < .milliseconds(1))
        let jump = read(1, at: 2, ahead: .seconds(31))
        #expect(jump?.node == 1 && jump?.isJump == true)
        #expect(jump.map { $0.by > .seconds(30) } == true)
        #expect(watch.skew > .seconds(30))
        #expect(read(1, at: 4, ahead: .seconds(31)) == nil, "said already")
        #expect(read(1, at: 6)?.isJump == true, "it jumped back")
        #expect(watch.skew < .milliseconds(1))
        // What the latest clock will show when the servers get it, and not much more.
        let floor = watch.floor(at: start.advanced(by: .seconds(10)))
        let expected = (epoch + .seconds(10)).nanoseconds / 1000
        #expect((expected...expected + 5_000).contains(floor))
    }

    // MARK: - Merging

    @Test
    func `who holds on a minority does not hold`() {
        let one = ResourceStatus(resource: "x", holders: [Self.holder("a", remaining: .seconds(9))], waiters: [])
        let two = ResourceStatus(resource: "x", holders: [Self.holder("a", remaining: .seconds(4))], waiters: [])
        let other = ResourceStatus(resource: "x", holders: [Self.holder("b")], waiters: [])
        let status = StatusMerge.status(of: "x", [one, two, other], of: 3)
        #expect(status.holders.map(\.reference) == ["a"])
        #expect(status.holders.first?.remaining == .seconds(4), "then a majority ends")
        #expect(StatusMerge.status(of: "x", [one, other], of: 3).holders.isEmpty)
    }

    @Test
    func `the token that is shown is the one that a majority knows`() {
        let lists = [5, 9, 5].map { (token: UInt64) in
            var holder = Self.holder("a")
            holder.fencingToken = FencingToken(rawValue: token)
            return [holder]
        }
        #expect(StatusMerge.holders(lists, needed: 2).first?.fencingToken == FencingToken(rawValue: 5))
    }

    @Test
    func `a resource rests when so many servers rest that no majority is left`() {
        func resting(_ time: Duration?) -> ResourceStatus {
            ResourceStatus(resource: "x", holders: [], waiters: [], restingFor: time)
        }
        let two = [resting(.seconds(3)), resting(.seconds(5)), resting(nil)]
        #expect(StatusMerge.status(of: "x", two, of: 3).restingFor == .seconds(3))
        #expect(
            StatusMerge.status(of: "x", [resting(.seconds(3)), resting(nil), resting(nil)], of: 3).restingFor == nil
        )
    }

    // MARK: - The book

    @Test
    func `a hint of one server waits for the others'; a majority's does not`() {
        var book = QuorumBook()
        let id = Make.request("x").id
        let step1 = book.hear(id, isLoss: false, from: 0, of: 5)
        #expect(step1 == .soon)
        let step2 = book.hear(id, isLoss: false, from: 0, of: 5)
        #expect(step2 == .soon)
        let step3 = book.hear(id, isLoss: false, from: 1, of: 5)
        #expect(step3 == .known)
        let step4 = book.hear(id, isLoss: false, from: 2, of: 5)
        #expect(step4 == .now)
        let step5 = book.takeHint(id)
        #expect(!step5)
        let step6 = book.hear(id, isLoss: true, from: 0, of: 3)
        #expect(step6 == .soon)
        let step7 = book.hear(id, isLoss: true, from: 1, of: 3)
        #expect(step7 == .now, "a loss is one when a majority says so")
    }

    @Test
    func `a grant is healed while it is valid, once at a time, and never after its release`() {
        var book = QuorumBook()
        let request = Make.request("x")
        let now = ContinuousClock.now
        let token = FencingToken(rawValue: 7)
        let step8 = book.enter(request, token, on: [0, 1], at: now, until: now + .seconds(1))
        #expect(step8 == token)
        let step9 = book.heal(request.id, on: 2, at: now)
        #expect(step9 != nil)
        let step10 = book.heal(request.id, on: 2, at: now)
        #expect(step10 == nil)
        let step11 = book.healed(request.id, on: 2, true)
        #expect(step11)
        #expect(book[request.id]?.nodes == [0, 1, 2])
        let step12 = book.heal(request.id, on: 0, at: now + .seconds(2))
        #expect(step12 == nil, "its validity is over")
        _ = book.remove(request.id)
        let step13 = book.heal(request.id, on: 0, at: now)
        #expect(step13 == nil)
        let step14 = book.healed(request.id, on: 0, true)
        #expect(!step14)
        #expect(book.count == (0, 0))
    }

    @Test
    func `a try that is given up after the request's end does not wait again`() {
        var book = QuorumBook()
        let request = Make.request("x")
        let now = ContinuousClock.now
        book.undo(request.id, on: [2])
        #expect(!book.isOver(request.id))
        _ = book.enter(request, FencingToken(rawValue: 7), on: [0, 1], at: now, until: now + .seconds(1))
        #expect(!book.isOver(request.id))
        _ = book.remove(request.id)
        #expect(book.isOver(request.id))
        book.undone(request.id, on: 2)
        #expect(!book.isOver(request.id))
        #expect(book.count == (0, 0))
    }

    @Test
    func `a token stays what it was while the grant is held`() {
        var book = QuorumBook()
        let request = Make.request("x")
        let now = ContinuousClock.now
        _ = book.enter(request, FencingToken(rawValue: 7), on: [0, 1], at: now, until: now + .seconds(1))
        let again = book.enter(request, FencingToken(rawValue: 9), on: [2], at: now, until: now + .seconds(2))
        #expect(again == FencingToken(rawValue: 7))
        let anew = book.enter(
            request,
            FencingToken(rawValue: 11),
            on: [2],
            at: now + .seconds(3),
            until: now + .seconds(4)
        )
        #expect(anew == FencingToken(rawValue: 11), "the first grant was over")
    }

    // MARK: - URLs

    @Test
    func `several hosts are a majority, with what stands around them for each`() throws {
        let url = "redis://user:p%40ss@a,b:7001,[::1]:7002/3?prefix=lk:&timeout=200ms&guard=5m"
        #expect(RedisQuorumConfiguration.names(severalIn: url))
        #expect(!RedisQuorumConfiguration.names(severalIn: "redis://user:a,b@host/1"))
        let configuration = try RedisQuorumConfiguration(url: url)
        #expect(configuration.servers.map(\.host) == ["a", "b", "::1"])
        #expect(configuration.servers.map(\.port) == [6379, 7001, 7002])
        #expect(configuration.servers.allSatisfy { $0.password == "p@ss" && $0.database == 3 && $0.prefix == "lk:" })
        #expect(configuration.restartGuard == .seconds(300))
        #expect(configuration.description == "redis://a:6379,b:7001,[::1]:7002/3")
        #expect(try RedisQuorumConfiguration(url: "redis://a,b,c?guard=off").restartGuard == nil)
    }

    @Test(arguments: [
        "redis://a,b", "redis://a,a:6379,b", "redis://a,,b", "redis://a,b,c?guard=soon", "redis://a,b,c?guard=0",
        "redis://a,b,c?gard=5s", "redis://secret:hunter2@a,b,c:x",
    ])
    func `a bad list of hosts is a clear error without its password`(url: String) throws {
        let error = #expect(throws: LockError.self) { try RedisQuorumConfiguration(url: url) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("hunter2") == false)
    }
}
