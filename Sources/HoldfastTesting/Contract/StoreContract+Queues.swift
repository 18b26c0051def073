// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension StoreContract {
    /// Waiting in line.
    static let queues: [Case] = [
        Case("The queue is first come, first served", if: handsOver) { bench in
            let name = try bench.resource()
            var (current, holder) = (try await bench.hold(name, bench.a), bench.a)
            var line: [LockRequest] = []
            for number in 0..<6 {
                let client = number.isMultiple(of: 2) ? bench.b : bench.a
                let request = bench.request(name, by: client)
                try bench.equal(try await bench.wait(request, client).position, number)
                line.append(request)
            }
            for (number, next) in line.enumerated() {
                let client = number.isMultiple(of: 2) ? bench.b : bench.a
                _ = try await holder.store.release(current.key)
                try await bench.granted(next, client)
                try await bench.take(next, client)
                (current, holder) = (next, client)
            }
        },
        Case("A place in the queue names who stands in the way", if: \.queues) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let place = try await bench.wait(bench.request(held.resource, by: bench.b), bench.b)
            try bench.equal(place.blockers.map(\.reference), [held.id.reference])
            try bench.check(place.checkAfter > .zero, "the check is in the future")
            try bench.check(place.checkAfter <= held.lease + .seconds(2), "the check comes when the lease ends")
        },
        Case("A waiter that sends its request again keeps its place", if: \.queues) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let first = try await bench.enqueue(held.resource, bench.b)
            let second = try await bench.enqueue(held.resource, bench.a)
            for _ in 0..<3 { try bench.equal(try await bench.wait(first, bench.b).position, 0) }
            try bench.equal(try await bench.wait(second, bench.a).position, 1)
            try bench.equal(try await bench.a.store.status(of: held.resource).waiters.count, 2)
        },
        Case("A higher priority stands before a lower one", if: prioritizes) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let low = bench.request(held.resource, by: bench.a, priority: -50)
            let middle = bench.request(held.resource, by: bench.a)
            let high = bench.request(held.resource, by: bench.b, priority: 50)
            try bench.equal(try await bench.wait(low, bench.a).position, 0)
            try bench.equal(try await bench.wait(middle, bench.a).position, 0)
            try bench.equal(try await bench.wait(high, bench.b).position, 0)
            _ = try await bench.a.store.release(held.key)
            try await bench.granted(high, bench.b)
            try await bench.take(high, bench.b)
            _ = try await bench.b.store.release(high.key)
            try await bench.take(middle, bench.a)
            _ = try await bench.a.store.release(middle.key)
            try await bench.take(low, bench.a)
        },
        Case("A newcomer does not overtake the queue of a resource that was just released", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let first = try await bench.enqueue(held.resource, bench.b)
            _ = try await bench.a.store.release(held.key)
            let newcomer = bench.request(held.resource, by: bench.a, contention: .fail)
            guard case .busy = try await bench.a.store.acquire(newcomer) else {
                throw Violation(description: "a newcomer overtook the queue")
            }
            try await bench.take(first, bench.b)
        },
        Case("A waiter that withdraws leaves the queue, and a late copy of its acquire gets nothing", if: \.queues) {
            bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let first = try await bench.enqueue(held.resource, bench.b)
            let second = try await bench.enqueue(held.resource, bench.a)
            try bench.equal(try await bench.b.store.withdraw(first.key), .withdrawn)
            try bench.equal(try await bench.b.store.withdraw(first.key), .notFound)
            try bench.equal(try await bench.b.store.acquire(first), .finished)
            try bench.equal(try await bench.wait(second, bench.a).position, 0)
            _ = try await bench.a.store.release(held.key)
            try await bench.granted(second, bench.a)
            try await bench.take(second, bench.a)
        },
        Case("A waiter that withdraws after it was granted gives the lock on", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let first = try await bench.enqueue(held.resource, bench.b)
            let second = try await bench.enqueue(held.resource, bench.a)
            _ = try await bench.a.store.release(held.key)
            try bench.equal(try await bench.b.store.withdraw(first.key), .released)
            try await bench.granted(second, bench.a)
            try await bench.take(second, bench.a)
            try bench.equal(try await bench.b.store.acquire(first), .finished)
        },
        Case("A withdrawal that overtakes its acquire wins") { bench in
            let request = bench.request(try bench.resource(), by: bench.a)
            try bench.equal(try await bench.a.store.withdraw(request.key), .notFound)
            try bench.equal(try await bench.a.store.acquire(request), .finished)
            try bench.check(try await bench.a.store.status(of: request.resource).isFree, "nothing is left")
        },
        Case("A place in the queue ends with its wait limit", if: \.queues) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let short = bench.subject.shortLease
            try await bench.wait(bench.request(held.resource, by: bench.b, waitLimit: short), bench.b)
            try await bench.subject.pass(short * 2)
            let next = try await bench.enqueue(held.resource, bench.a)
            _ = try await bench.a.store.release(held.key)
            try await bench.take(next, bench.a)
        },
    ]

    /// Handing a lock over.
    static let hands: [Case] = [
        Case("A release hands the lock to the next in line, who accepts it", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let next = try await bench.enqueue(held.resource, bench.b)
            _ = try await bench.a.store.release(held.key)
            let before = try await bench.b.store.status(of: held.resource)
            try bench.equal(before.holders.map(\.reference), [next.id.reference])
            if keepsLeases(bench.b.store.capabilities) {
                try bench.equal(before.holders.first?.isAccepting, true)
            }
            try bench.equal(before.waiters.count, 0)
            try await bench.granted(next, bench.b)
            let token = try await bench.take(next, bench.b)
            let after = try await bench.b.store.status(of: held.resource)
            try bench.equal(after.holders.first?.isAccepting, false)
            try bench.equal(after.holders.first?.fencingToken, token)
            try bench.check(after.holders.first?.remaining ?? .zero > .seconds(30), "the lease counts from acceptance")
        },
        Case("A hand-over that is not accepted passes on", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let short = bench.subject.shortLease
            let dead = bench.request(held.resource, by: bench.a, acceptance: short, lockDelay: .zero)
            try await bench.wait(dead, bench.a)
            let next = try await bench.enqueue(held.resource, bench.b)
            _ = try await bench.a.store.release(held.key)
            // Where the releaser hands over, the next in line hears of it.
            if keepsLeases(bench.b.store.capabilities) {
                try await bench.signal(bench.b, "check \(next.id)") { signal in
                    if case .check(next.id, after: let pause) = signal { pause <= short } else { false }
                }
            }
            try await bench.passShortLease()
            try await bench.take(next, bench.b)
        },
        Case(
            "A resource does not rest after a hand-over that was not accepted",
            if: handsOverAndDelays
        ) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let short = bench.subject.shortLease
            try await bench.wait(
                bench.request(held.resource, by: bench.a, acceptance: short, lockDelay: .seconds(60)),
                bench.a
            )
            _ = try await bench.a.store.release(held.key)
            try await bench.passShortLease()
            try await bench.take(bench.request(held.resource, by: bench.b, contention: .fail), bench.b)
        },
        Case("A renewal accepts a hand-over too", if: handsOver) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let short = bench.subject.shortLease
            let next = bench.request(held.resource, by: bench.b, acceptance: short)
            try await bench.wait(next, bench.b)
            _ = try await bench.a.store.release(held.key)
            try bench.equal(
                try await bench.b.store.renew([Renewal(key: next.key, lease: .seconds(60))]),
                [.renewed(revokeRequested: false)]
            )
            try await bench.passShortLease()
            try bench.equal(try await bench.b.store.release(next.key), .released)
        },
        Case("When a lease ends, who asks next gets the lock in the order of the queue", if: handsOver) { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, lease: bench.subject.shortLease), bench.a)
            let first = try await bench.enqueue(name, bench.b)
            let second = try await bench.enqueue(name, bench.a)
            try await bench.passShortLease()
            try await bench.wait(second, bench.a)
            try await bench.granted(first, bench.b)
            try await bench.take(first, bench.b)
        },
    ]
}
