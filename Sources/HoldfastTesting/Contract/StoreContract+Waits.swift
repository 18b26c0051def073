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
    ]
}
