// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension StoreContract {
    /// Releasing and losing.
    static let ends: [Case] = [
        Case("A lease ends by itself") { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, lease: bench.subject.shortLease), bench.a)
            try await bench.passShortLease()
            try bench.check(try await bench.b.store.status(of: name).isFree, "the name is free")
            try await bench.take(bench.request(name, by: bench.b, contention: .fail), bench.b)
        },
        Case("A second release says that the lock is gone") { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            try bench.equal(try await bench.a.store.release(held.key), .released)
            try bench.equal(try await bench.a.store.release(held.key), .alreadyLost)
        },
        Case("A renewal beside a release does not bring the lock back (H10)") { bench in
            let store = bench.a.store
            for _ in 0..<50 {
                let held = try await bench.hold(try bench.resource(), bench.a)
                let renewal = Renewal(key: held.key, lease: held.lease)
                async let renewed = store.renew([renewal])
                async let released = store.release(held.key)
                _ = try await renewed
                try bench.equal(try await released, .released)
                try bench.check(try await bench.b.store.status(of: held.resource).isFree, "the name is free")
                let late = try await store.renew([renewal])
                if case .lost? = late.first {} else { try bench.check(false, "a late renewal is lost, not \(late)") }
                try bench.check(try await bench.b.store.status(of: held.resource).isFree, "the name stays free")
            }
        },
        Case("The release of a request that never was changes nothing") { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let stranger = bench.request(held.resource, by: bench.b)
            try bench.equal(try await bench.b.store.release(stranger.key), .alreadyLost)
            try bench.equal(try await bench.a.store.release(held.key), .released)
        },
        Case("A release after the lease ended does not disturb the successor") { bench in
            let name = try bench.resource()
            let old = bench.request(name, by: bench.a, lease: bench.subject.shortLease)
            try await bench.take(old, bench.a)
            try await bench.passShortLease()
            let successor = try await bench.hold(name, bench.b)
            try bench.equal(try await bench.a.store.release(old.key), .alreadyLost)
            try bench.equal(
                try await bench.b.store.status(of: name).holders.map(\.reference),
                [successor.id.reference]
            )
            try bench.equal(try await bench.b.store.release(successor.key), .released)
        },
        Case("The release of a waiting request is no release", if: \.queues) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let waiter = try await bench.enqueue(held.resource, bench.b)
            try bench.equal(try await bench.b.store.release(waiter.key), .alreadyLost)
            try bench.equal(try await bench.a.store.status(of: held.resource).holders.count, 1)
        },
        Case("A resource rests after a lease that ended without a release", if: \.delaysAfterLoss) { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            try await bench.take(bench.request(name, by: bench.a, lease: short, lockDelay: short * 4), bench.a)
            try await bench.passShortLease()
            let early = try await bench.b.store.acquire(bench.request(name, by: bench.b, contention: .fail))
            try bench.equal(early, .busy(blockers: []))
            try bench.check(try await bench.b.store.status(of: name).restingFor ?? .zero > .zero, "it says how long")
            try await bench.subject.pass(short * 4)
            try await bench.take(bench.request(name, by: bench.b, contention: .fail), bench.b)
        },
        Case("A resource does not rest after a release", if: \.delaysAfterLoss) { bench in
            let held = bench.request(try bench.resource(), by: bench.a, lockDelay: .seconds(60))
            try await bench.take(held, bench.a)
            _ = try await bench.a.store.release(held.key)
            try await bench.take(bench.request(held.resource, by: bench.b, contention: .fail), bench.b)
        },
        Case("Who waits while a resource rests gets it afterwards", if: queuesAndDelays) { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            try await bench.take(bench.request(name, by: bench.a, lease: short, lockDelay: short * 2), bench.a)
            let waiter = try await bench.enqueue(name, bench.b)
            try await bench.passShortLease()
            try bench.check(try await bench.wait(waiter, bench.b).checkAfter > .zero, "asks again when it has rested")
            try await bench.subject.pass(short * 2)
            try await bench.take(waiter, bench.b)
        },
    ]

    /// Renewing.
    static let renewals: [Case] = [
        Case("A renewal keeps the lock beyond its first lease") { bench in
            let short = bench.subject.shortLease
            let held = bench.request(try bench.resource(), by: bench.a, lease: short)
            try await bench.take(held, bench.a)
            for _ in 0..<4 {
                try await bench.subject.pass(short / 2)
                try bench.equal(
                    try await bench.a.store.renew([Renewal(key: held.key, lease: short)]),
                    [.renewed(revokeRequested: false)]
                )
            }
            try bench.equal(try await bench.a.store.release(held.key), .released)
        },
        Case("A renewal never brings a lost lock back") { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            let old = bench.request(name, by: bench.a, lease: short)
            try await bench.take(old, bench.a)
            try await bench.passShortLease()
            let other = try await bench.hold(name, bench.b)
            _ = try await bench.b.store.release(other.key)
            let reply = try await bench.a.store.renew([Renewal(key: old.key, lease: short)])
            try bench.equal(reply, [.lost(.expired)])
            try bench.check(try await bench.a.store.status(of: name).isFree, "the name stays free")
        },
        Case("A renewal after a release does not bring the lock back") { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            _ = try await bench.a.store.release(held.key)
            let reply = try await bench.a.store.renew([Renewal(key: held.key, lease: .seconds(60))])
            try bench.equal(reply, [.lost(.expired)])
            try bench.check(try await bench.a.store.status(of: held.resource).isFree, "the name stays free")
        },
        Case("A batch of renewals is answered in its order") { bench in
            var renewals: [Renewal] = []
            var expected: [RenewReply] = []
            for number in 0..<Limits.maximumRenewalBatch {
                let request = bench.request(try bench.resource("\(number)"), by: bench.a)
                renewals.append(Renewal(key: request.key, lease: .seconds(60)))
                if number.isMultiple(of: 7) {
                    expected.append(.lost(.expired))
                } else {
                    try await bench.take(request, bench.a)
                    expected.append(.renewed(revokeRequested: false))
                }
            }
            try bench.check(try await bench.a.store.renew(renewals) == expected, "answers come in order")
            for renewal in renewals { _ = try await bench.a.store.release(renewal.key) }
        },
        Case("A batch may be empty") { bench in try bench.equal(try await bench.a.store.renew([]), []) },
    ]
}
