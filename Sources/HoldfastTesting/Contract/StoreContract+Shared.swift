// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension StoreContract {
    /// Readers and writers.
    static let readers: [Case] = [
        Case("Readers hold together, and a writer waits for all of them", if: shares) { bench in
            let name = try bench.resource()
            let first = bench.request(name, by: bench.a, mode: .shared)
            let second = bench.request(name, by: bench.b, mode: .shared)
            let firstToken = try await bench.take(first, bench.a)
            try bench.check(try await bench.take(second, bench.b) >= firstToken, "tokens do not go down")
            let writer = try await bench.enqueue(name, bench.a)
            _ = try await bench.a.store.release(first.key)
            try await bench.wait(writer, bench.a)
            _ = try await bench.b.store.release(second.key)
            try await bench.granted(writer, bench.a)
            try bench.check(try await bench.take(writer, bench.a) > firstToken, "a writer is above the readers")
        },
        Case("A waiting writer stops new readers", if: handsOverToReaders) { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, mode: .shared), bench.a)
            _ = try await bench.enqueue(name, bench.b)
            try await bench.wait(bench.request(name, by: bench.a, mode: .shared), bench.a)
            let reply = try await bench.a.store.acquire(
                bench.request(name, by: bench.a, mode: .shared, contention: .fail)
            )
            guard case .busy = reply else { throw Violation(description: "a reader overtook a writer: \(reply)") }
        },
        Case("Adjacent readers of the queue are granted together", if: handsOverToReaders) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            let readers = (0..<3).map { _ in bench.request(held.resource, by: bench.b, mode: .shared) }
            for reader in readers { try await bench.wait(reader, bench.b) }
            let writer = try await bench.enqueue(held.resource, bench.a)
            let late = bench.request(held.resource, by: bench.b, mode: .shared)
            try await bench.wait(late, bench.b)
            _ = try await bench.a.store.release(held.key)
            for reader in readers { try await bench.granted(reader, bench.b) }
            for reader in readers { try await bench.take(reader, bench.b) }
            try await bench.wait(writer, bench.a)
            try await bench.wait(late, bench.b)
        },
        Case("Readers behind a writer that gives up are granted at once", if: handsOverToReaders) { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, mode: .shared), bench.a)
            let writer = try await bench.enqueue(name, bench.a)
            let reader = bench.request(name, by: bench.b, mode: .shared)
            try await bench.wait(reader, bench.b)
            _ = try await bench.a.store.withdraw(writer.key)
            try await bench.granted(reader, bench.b)
            try await bench.take(reader, bench.b)
        },
        Case(
            "A reader of high priority that stands before the writer joins the readers at once",
            if: prioritizesReaders
        ) { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, mode: .shared), bench.a)
            let writer = try await bench.enqueue(name, bench.a)
            try await bench.take(bench.request(name, by: bench.b, mode: .shared, priority: 50), bench.b)
            try await bench.wait(writer, bench.a)
        },
        Case("Each reader's lease ends by itself", if: shares) { bench in
            let name = try bench.resource()
            let dead = bench.request(name, by: bench.a, mode: .shared, lease: bench.subject.shortLease)
            let alive = bench.request(name, by: bench.b, mode: .shared)
            try await bench.take(dead, bench.a)
            try await bench.take(alive, bench.b)
            _ = try await bench.b.store.renew([Renewal(key: alive.key, lease: .seconds(60))])
            try await bench.passShortLease()
            let holders = try await bench.a.store.status(of: name).holders
            try bench.equal(holders.map(\.reference), [alive.id.reference])
            try bench.equal(try await bench.a.store.release(dead.key), .alreadyLost)
            _ = try await bench.b.store.release(alive.key)
            try await bench.take(bench.request(name, by: bench.a, contention: .fail), bench.a)
        },
        Case("As many permits are given as there are, and no more", if: givesPermits) {
            bench in
            let name = try bench.resource()
            let requests = (0..<4).map { _ in bench.request(name, by: bench.a, mode: .permit(of: 3)) }
            for request in requests.prefix(3) { try await bench.take(request, bench.a) }
            try await bench.wait(requests[3], bench.a)
            _ = try await bench.a.store.release(requests[1].key)
            try await bench.granted(requests[3], bench.a)
            try await bench.take(requests[3], bench.a)
        },
    ]

    /// Changing the mode of a lock that is held.
    static let conversions: [Case] = [
        Case("An upgrade waits for the readers and brings a new token", if: converts) { bench in
            let name = try bench.resource()
            let reader = bench.request(name, by: bench.a, mode: .shared)
            let upgrader = bench.request(name, by: bench.b, mode: .update)
            try await bench.take(reader, bench.a)
            let token = try await bench.take(upgrader, bench.b)
            guard case .busy(let blockers) = try await bench.b.store.convert(Conversion(upgrader.key, to: .exclusive))
            else {
                throw Violation(description: "an upgrade beside a reader went through")
            }
            try bench.equal(blockers.map(\.reference), [reader.id.reference])
            _ = try await bench.a.store.release(reader.key)
            guard case .converted(let new) = try await bench.b.store.convert(Conversion(upgrader.key, to: .exclusive))
            else {
                throw Violation(description: "an upgrade without readers did not go through")
            }
            try bench.check(new > token, "an upgrade brings a new token")
            try bench.equal(try await bench.b.store.convert(Conversion(upgrader.key, to: .exclusive)), .converted(new))
            try bench.equal(try await bench.b.store.status(of: name).holders.map(\.mode), [.exclusive])
        },
        Case("A second holder in update mode has to wait", if: converts) { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, mode: .update), bench.a)
            try await bench.wait(bench.request(name, by: bench.b, mode: .update), bench.b)
        },
        Case("A downgrade keeps its token, lets readers in and keeps writers out", if: converts) { bench in
            let name = try bench.resource()
            let held = bench.request(name, by: bench.a)
            let token = try await bench.take(held, bench.a)
            let reader = bench.request(name, by: bench.b, mode: .shared)
            try await bench.wait(reader, bench.b)
            let writer = try await bench.enqueue(name, bench.a)
            try bench.equal(try await bench.a.store.convert(Conversion(held.key, to: .shared)), .converted(token))
            try await bench.granted(reader, bench.b)
            try await bench.take(reader, bench.b)
            _ = try await bench.b.store.release(reader.key)
            try await bench.wait(writer, bench.a)
            _ = try await bench.a.store.release(held.key)
            try await bench.take(writer, bench.a)
        },
        Case("A downgrade after a renewal keeps what is left of the lease", if: converts) { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            let held = bench.request(name, by: bench.a, lease: short)
            try await bench.take(held, bench.a)
            _ = try await bench.a.store.renew([Renewal(key: held.key, lease: .seconds(60))])
            // Beyond the end of the first lease, and well within that of the second.
            try await bench.passShortLease()
            guard case .converted = try await bench.a.store.convert(Conversion(held.key, to: .shared)) else {
                throw Violation(description: "a downgrade of a held lock was refused")
            }
            try await bench.subject.pass(.milliseconds(20))
            try await bench.wait(bench.request(name, by: bench.b), bench.b)
            try bench.equal(try await bench.a.store.release(held.key), .released)
        },
        Case("An upgrade waits while the resource rests", if: convertsAndRests) { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            let upgrader = bench.request(name, by: bench.b, mode: .update)
            try await bench.take(upgrader, bench.b)
            let reader = bench.request(name, by: bench.a, mode: .shared, lease: short, lockDelay: short * 2)
            try await bench.take(reader, bench.a)
            let conversion = Conversion(upgrader.key, to: .exclusive, contention: .queue)
            guard case .waiting = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade beside a reader does not wait")
            }
            try await bench.passShortLease()
            guard case .waiting(let place) = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade did not wait for a reader that may not know of its end")
            }
            try bench.check(place.checkAfter < .seconds(60), "asks again when it has rested")
            try await bench.subject.pass(short * 2)
            guard case .converted = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade waited beyond the rest")
            }
        },
        Case("A waiting upgrade keeps newcomers out and is done when the last reader leaves", if: converts) { bench in
            let name = try bench.resource()
            let reader = bench.request(name, by: bench.a, mode: .shared)
            let upgrader = bench.request(name, by: bench.b, mode: .update)
            try await bench.take(reader, bench.a)
            let token = try await bench.take(upgrader, bench.b)
            let conversion = Conversion(upgrader.key, to: .exclusive, contention: .queue)
            guard case .waiting(let place) = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade beside a reader does not wait")
            }
            try bench.equal(place.blockers.map(\.reference), [reader.id.reference])
            let newcomer = bench.request(name, by: bench.a, mode: .shared)
            try await bench.wait(newcomer, bench.a)
            let waiters = try await bench.a.store.status(of: name).waiters
            try bench.equal(waiters.map(\.reference), [upgrader.id.reference, newcomer.id.reference])
            try bench.equal(waiters.first?.holding, [upgrader.id.reference])
            _ = try await bench.a.store.release(reader.key)
            try await bench.granted(upgrader, bench.b)
            guard case .converted(let new) = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade did not end when the last reader left")
            }
            try bench.check(new > token, "an upgrade brings a new token")
            _ = try await bench.b.store.release(upgrader.key)
            try await bench.granted(newcomer, bench.a)
        },
        Case("A waiting upgrade ends by asking for the present mode, and readers come in again", if: converts) {
            bench in
            let name = try bench.resource()
            let reader = bench.request(name, by: bench.a, mode: .shared)
            let upgrader = bench.request(name, by: bench.b, mode: .update)
            try await bench.take(reader, bench.a)
            let token = try await bench.take(upgrader, bench.b)
            _ = try await bench.b.store.convert(Conversion(upgrader.key, to: .exclusive, contention: .queue))
            let newcomer = bench.request(name, by: bench.a, mode: .shared)
            try await bench.wait(newcomer, bench.a)
            try bench.equal(try await bench.b.store.convert(Conversion(upgrader.key, to: .update)), .converted(token))
            try await bench.granted(newcomer, bench.a)
            try await bench.take(newcomer, bench.a)
            try bench.equal(try await bench.a.store.status(of: name).waiters, [])
        },
        Case("A waiting upgrade ends when a reader dies", if: converts) { bench in
            let name = try bench.resource()
            let lease = bench.subject.shortLease
            try await bench.take(bench.request(name, by: bench.a, mode: .shared, lease: lease), bench.a)
            let upgrader = bench.request(name, by: bench.b, mode: .update)
            try await bench.take(upgrader, bench.b)
            let conversion = Conversion(upgrader.key, to: .exclusive, contention: .queue)
            guard case .waiting = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "an upgrade beside a reader does not wait")
            }
            try await bench.passShortLease()
            guard case .converted = try await bench.b.store.convert(conversion) else {
                throw Violation(description: "a dead reader holds an upgrade up")
            }
        },
        Case("A lock that is lost cannot be converted", if: converts) { bench in
            let held = try await bench.hold(try bench.resource(), bench.a)
            _ = try await bench.a.store.release(held.key)
            try bench.equal(try await bench.a.store.convert(Conversion(held.key, to: .shared)), .lost)
        },
    ]
}
