// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The order in which waiting requests are served, and what they hang on.
extension StoreContract {
    /// Requests that may be passed and pass others.
    static let barging: [Case] = [
        Case("A barging request finds a released lock free, and whoever asks first gets it", if: barges) { bench in
            let name = try bench.resource()
            let holder = try await bench.hold(name, bench.a)
            let waiter = bench.request(name, by: bench.b, fairness: .barging)
            try await bench.wait(waiter, bench.b)
            _ = try await bench.a.store.release(holder.key)
            try await bench.signal(bench.b, "check") { $0 == .check(waiter.id, after: .zero) }
            try bench.equal(try await bench.a.store.status(of: name).holders, [])
            let newcomer = try await bench.hold(name, bench.a)
            try await bench.wait(waiter, bench.b)
            _ = try await bench.a.store.release(newcomer.key)
            try await bench.take(waiter, bench.b)
            try bench.equal(try await bench.a.store.status(of: name).waiters, [])
        },
        Case("A barging reader joins readers though a writer waits", if: readersBarge) { bench in
            let name = try bench.resource()
            let reader = bench.request(name, by: bench.a, mode: .shared)
            try await bench.take(reader, bench.a)
            let writer = try await bench.enqueue(name, bench.b)
            if bench.a.store.capabilities.handsOver {
                try await bench.wait(bench.request(name, by: bench.a, mode: .shared), bench.a)
            }
            let barging = bench.request(name, by: bench.a, mode: .shared, fairness: .barging)
            try await bench.take(barging, bench.a)
            try bench.equal(try await bench.a.store.status(of: name).waiters.first?.reference, writer.id.reference)
        },
    ]

    /// What waiting requests hang on.
    static let waits: [Case] = [
        Case("The waits of an owner are followed from resource to resource", if: \.showsWaits) { bench in
            let (x, y) = (try bench.resource("x"), try bench.resource("y"))
            let first = try await bench.hold(x, bench.a)
            let second = try await bench.hold(y, bench.b)
            let forward = bench.request(y, by: bench.a, after: first)
            let back = bench.request(x, by: bench.b, after: second)
            try await bench.wait(forward, bench.a)
            // A store need not know of a wait that nobody asked about.
            _ = try await bench.a.store.waits(of: forward.owner, for: y)
            try await bench.subject.pass(.milliseconds(2))
            try await bench.wait(back, bench.b)
            let statuses = try await bench.b.store.waits(of: back.owner, for: x)
            try bench.equal(Set(statuses.map(\.resource)), [x, y])
            let found = WaitForGraph(statuses).deadlock(of: back.id.reference)
            try bench.equal(found?.victim.waiter.reference, back.id.reference)
            try bench.equal(found?.cycle.map(\.from.resource), [x, y])
            try bench.equal(found?.cycle.map(\.grant?.owner), [first.owner, second.owner])
            _ = try await bench.b.store.withdraw(back.key)
            let rest = try await bench.a.store.waits(of: forward.owner, for: y)
            try bench.equal(WaitForGraph(rest).deadlocks, [])
        },
        Case("A wait that is over is in nobody's way", if: \.showsWaits) { bench in
            let (x, y) = (try bench.resource("x"), try bench.resource("y"))
            let first = try await bench.hold(x, bench.a)
            let second = try await bench.hold(y, bench.b)
            let forward = bench.request(y, by: bench.a, after: first)
            try await bench.wait(forward, bench.a)
            _ = try await bench.a.store.waits(of: forward.owner, for: y)
            _ = try await bench.a.store.withdraw(forward.key)
            let back = bench.request(x, by: bench.b, after: second)
            try await bench.wait(back, bench.b)
            let statuses = try await bench.b.store.waits(of: back.owner, for: x)
            try bench.equal(statuses.map(\.resource), [x])
            try bench.equal(WaitForGraph(statuses).deadlocks, [])
        },
        // Where two clients each take the other for the younger one, neither gives up, and the circle stays for good.
        Case("All who are in a circle see the same victim", if: \.showsWaits) { bench in
            for round in 0..<10 {
                let (x, y) = (try bench.resource("x\(round)"), try bench.resource("y\(round)"))
                let first = try await bench.hold(x, bench.a)
                let second = try await bench.hold(y, bench.b)
                let forward = bench.request(y, by: bench.a, after: first)
                let back = bench.request(x, by: bench.b, after: second)
                // At the same time, and in both orders: how long the way to the store is must not count.
                async let one = bench.wait(round % 2 == 0 ? forward : back, round % 2 == 0 ? bench.a : bench.b)
                async let other = bench.wait(round % 2 == 0 ? back : forward, round % 2 == 0 ? bench.b : bench.a)
                _ = try await (one, other)
                try await bench.agree((forward, bench.a), (back, bench.b))
            }
        },
        Case("A holder that waits to become exclusive is as old for others as for itself", if: upgradesAndShowsWaits) {
            bench in
            let (x, y) = (try bench.resource("x"), try bench.resource("y"))
            let held = try await bench.hold(y, bench.a)
            let upgrader = bench.request(x, by: bench.a, mode: .update, after: held)
            let reader = bench.request(x, by: bench.b, mode: .shared)
            try await bench.take(upgrader, bench.a)
            try await bench.take(reader, bench.b)
            try await bench.subject.pass(.milliseconds(20))
            let waiter = bench.request(y, by: bench.b, after: reader)
            try await bench.wait(waiter, bench.b)
            try await bench.subject.pass(.milliseconds(20))
            // Held first and waiting last: the age of the wait is what counts.
            let conversion = Conversion(
                upgrader.key,
                to: .exclusive,
                contention: .queue,
                holding: [held.id.reference]
            )
            guard case .waiting = try await bench.a.store.convert(conversion) else {
                throw Violation(description: "an upgrade beside a reader does not wait")
            }
            try await bench.agree((upgrader, bench.a), (waiter, bench.b), upgrader)
        },
    ]
}

extension ContractBench {
    /// Checks that two requests of a circle see the same one as its victim.
    fileprivate func agree(
        _ one: (request: LockRequest, client: Client),
        _ other: (request: LockRequest, client: Client),
        _ expected: LockRequest? = nil,
        line: Int = #line
    ) async throws {
        var victims: [String?] = []
        // The first round makes the waits known where a store has to be told.
        for (request, client) in [one, other, one, other] {
            let statuses = try await client.store.waits(of: request.owner, for: request.resource)
            let ignoresAges = !self.subject.agreesOnAges
            let found = WaitForGraph(statuses).deadlock(of: request.id.reference, ignoringAges: ignoresAges)
            victims.append(found?.victim.waiter.reference)
        }
        if let expected, self.subject.agreesOnAges { try self.equal(victims[2], expected.id.reference, line: line) }
        try self.equal(victims[3], victims[2], line: line)
        try self.check(victims[2] != nil, "no circle was found", line: line)
    }
}
