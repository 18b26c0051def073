// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension StoreContract {
    /// What operators do.
    static let operators: [Case] = [
        Case("A revocation asks the holder and takes nothing away") { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let reply = try await bench.b.store.revoke(held.resource)
            try bench.equal(reply.asked.map(\.reference), [held.id.reference])
            try await bench.signal(bench.a, "revokeRequested") { $0 == .revokeRequested(held.id) }
            try bench.equal(
                try await bench.a.store.renew([Renewal(key: held.key, lease: .seconds(60))]),
                [.renewed(revokeRequested: true)]
            )
            try bench.equal(try await bench.a.store.release(held.key), .released)
        },
        Case("A revocation of a free resource asks nobody") { bench in
            try bench.equal(try await bench.a.store.revoke(try bench.resource()).asked, [])
        },
        Case("A revocation is over with its holder", if: \.queues) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let next = try await bench.enqueue(held.resource, bench.b)
            _ = try await bench.b.store.revoke(held.resource)
            _ = try await bench.a.store.release(held.key)
            try await bench.take(next, bench.b)
            try bench.equal(
                try await bench.b.store.renew([Renewal(key: next.key, lease: .seconds(60))]),
                [.renewed(revokeRequested: false)]
            )
        },
        Case("Force takes the lock, tells its holder and hands on", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let next = try await bench.enqueue(held.resource, bench.b)
            let former = try await bench.b.store.forceRelease(held.resource)
            try bench.equal(former.map(\.reference), [held.id.reference])
            try await bench.signal(bench.a, "lost") { $0 == .lost(held.id, .forced) }
            try await bench.granted(next, bench.b)
            try await bench.take(next, bench.b)
            guard case .lost = try await bench.a.store.renew([Renewal(key: held.key, lease: .seconds(60))]).first else {
                throw Violation(description: "a lock that was taken by force was renewed")
            }
            try bench.equal(try await bench.a.store.release(held.key), .alreadyLost)
            try bench.equal(try await bench.a.store.acquire(held), .finished)
            try bench.equal(try await bench.b.store.release(next.key), .released)
        },
        Case("Force on a free resource does nothing") { bench in
            try bench.equal(try await bench.a.store.forceRelease(try bench.resource()), [])
        },
        Case("A resource rests after force", if: \.delaysAfterLoss) { bench in
            let held = bench.request(try bench.resource(), by: bench.a, lockDelay: .seconds(60))
            try await bench.take(held, bench.a)
            _ = try await bench.b.store.forceRelease(held.resource)
            let reply = try await bench.b.store.acquire(bench.request(held.resource, by: bench.b, contention: .fail))
            try bench.equal(reply, .busy(blockers: []))
        },
    ]

    /// What lists show.
    static let surveys: [Case] = [
        Case("A status shows owner, token, times and waiters, and no secret", if: \.queues) { bench in
            let name = try bench.resource()
            let held = bench.request(name, by: bench.a)
            let token = try await bench.take(held, bench.a)
            let first = try await bench.enqueue(name, bench.b)
            let second = try await bench.enqueue(name, bench.a)
            // What is left of a lease is known to everybody, or to the holder's store alone.
            let status = try await bench.a.store.status(of: name)
            let holder = status.holders.first
            try bench.equal(status.holders.count, 1)
            try bench.equal(holder?.owner, held.owner)
            try bench.equal(holder?.owner?.label, held.owner.label)
            try bench.equal(holder?.owner?.process.host, held.owner.process.host)
            try bench.equal(holder?.owner?.process.pid, held.owner.process.pid)
            try bench.equal(holder?.mode, .exclusive)
            try bench.equal(holder?.fencingToken, token)
            try bench.check(
                holder?.remaining.map { $0 > .seconds(20) && $0 <= .seconds(60) } == true,
                "what is left of the lease: \(holder?.remaining as Any)"
            )
            try bench.equal(status.waiters.map(\.reference), [first.id.reference, second.id.reference])
            try bench.equal(status.waiters.map(\.owner), [first.owner, second.owner])
            let text = "\(status)"
            for request in [held, first, second] {
                try bench.check(!text.contains(request.id.secret), "no secret is shown")
            }
        },
        Case("A resource that nobody holds is free") { bench in
            let status = try await bench.a.store.status(of: try bench.resource())
            try bench.check(status.isFree, "free: \(status)")
        },
        Case("A survey finds what is not free, and only what matches") { bench in
            for name in ["one/a", "one/b", "two/a", "two/a*b"] {
                _ = try await bench.hold(try bench.resource(name), bench.a)
            }
            let gone = try await bench.hold(try bench.resource("one/gone"), bench.a)
            _ = try await bench.a.store.release(gone.key)
            try bench.equal(try await bench.survey("*"), ["one/a", "one/b", "two/a", "two/a*b"])
            try bench.equal(try await bench.survey("one/*"), ["one/a", "one/b"])
            try bench.equal(try await bench.survey("*/a"), ["one/a", "two/a"])
            try bench.equal(try await bench.survey("?wo/a"), ["two/a"])
            try bench.equal(try await bench.survey("one/[ab]"), [])
            try bench.equal(try await bench.survey("none"), [])
        },
        Case("A survey of more than a page finds everything once") { bench in
            let count = Limits.maximumSurveyPage + 50
            var held: [LockRequest] = []
            for number in 0..<count { held.append(try await bench.hold(try bench.resource("n\(number)"), bench.a)) }
            let found = try await bench.survey("n*")
            try bench.equal(found.count, count)
            try bench.equal(Set(found).count, count)
            for request in held { _ = try await bench.a.store.release(request.key) }
            try bench.equal(try await bench.survey("n*"), [])
        },
    ]

    /// What is refused.
    static let limits: [Case] = [
        Case("Modes that a store does not grant are refused before anything is touched") { bench in
            let known = bench.a.store.capabilities.modes
            let name = try bench.resource()
            for mode in [LockMode.shared, .update, .permit(of: 2)] where !known.contains(mode.kind) {
                try await bench.fails(.unsupported) {
                    _ = try await bench.a.store.acquire(bench.request(name, by: bench.a, mode: mode))
                }
            }
            try bench.check(try await bench.a.store.status(of: name).isFree, "nothing is held")
        },
        Case("Leases, delays and priorities out of range are refused before anything is touched") { bench in
            let name = try bench.resource()
            let abilities = bench.a.store.capabilities
            let bad = [
                bench.request(name, by: bench.a, lease: abilities.minimumLease / 2),
                bench.request(name, by: bench.a, lease: abilities.maximumLease * 2),
                bench.request(name, by: bench.a, lease: .zero),
                bench.request(name, by: bench.a, lockDelay: .seconds(-1)),
                bench.request(name, by: bench.a, lockDelay: Limits.maximumLockDelay * 2),
                bench.request(name, by: bench.a, priority: 101),
                bench.request(name, by: bench.a, priority: -101),
            ]
            for request in bad {
                try await bench.fails(.invalidArgument) { _ = try await bench.a.store.acquire(request) }
            }
            try bench.check(try await bench.a.store.status(of: name).isFree, "nothing is held")
        },
        Case("Waiting and resting are refused by a store that has neither", if: lacksSomething) {
            bench in
            let name = try bench.resource()
            if !bench.a.store.capabilities.queues {
                try await bench.fails(.unsupported) {
                    _ = try await bench.a.store.acquire(bench.request(name, by: bench.a))
                }
            }
            if !bench.a.store.capabilities.delaysAfterLoss {
                try await bench.fails(.unsupported) {
                    let request = bench.request(name, by: bench.a, contention: .fail, lockDelay: .seconds(1))
                    _ = try await bench.a.store.acquire(request)
                }
            }
            if !bench.a.store.capabilities.prioritizes {
                try await bench.fails(.unsupported) {
                    _ = try await bench.a.store.acquire(bench.request(name, by: bench.a, priority: 1))
                }
            }
            if !bench.a.store.capabilities.barges {
                try await bench.fails(.unsupported) {
                    _ = try await bench.a.store.acquire(bench.request(name, by: bench.a, fairness: .barging))
                }
            }
            try bench.check(try await bench.a.store.status(of: name).isFree, "nothing is held")
        },
        Case("A call is not interrupted when its task is cancelled") { bench in
            let name = try bench.resource()
            let request = bench.request(name, by: bench.a)
            let reply = try await withThrowingTaskGroup(of: AcquireReply.self) { group in
                group.addTask {
                    withUnsafeCurrentTask { task in unsafe task?.cancel() }
                    return try await bench.a.store.acquire(request)
                }
                return try await group.next()
            }
            guard case .granted? = reply else { throw Violation(description: "expected a grant: \(reply as Any)") }
            try bench.equal(try await bench.a.store.release(request.key), .released)
        },
    ]
}

extension ContractBench {
    /// The names that a survey finds, without the prefix and in order.
    func survey(_ pattern: String) async throws -> [String] {
        var names: [String] = []
        var cursor: SurveyPage.Cursor?
        repeat {
            let page = try await self.b.store.survey(ResourcePattern(self.subject.namePrefix + pattern), after: cursor)
            names += page.resources.map { String($0.resource.name.dropFirst(self.subject.namePrefix.count)) }
            cursor = page.next
        } while cursor != nil
        return names.sorted()
    }
}
