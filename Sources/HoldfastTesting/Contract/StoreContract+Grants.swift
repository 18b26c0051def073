// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension StoreContract {
    /// Taking a lock, and sending the same request again.
    static let grants: [Case] = [
        Case("A free resource is granted at once") { bench in
            let name = try bench.resource()
            try await bench.take(bench.request(name, by: bench.a, contention: .fail), bench.a)
            let status = try await bench.b.store.status(of: name)
            try bench.equal(status.holders.count, 1)
        },
        Case("A taken resource is busy for who does not wait, and names its holder") { bench in
            let name = try bench.resource()
            let held = try await bench.hold(name, bench.a)
            let reply = try await bench.b.store.acquire(bench.request(name, by: bench.b, contention: .fail))
            guard case .busy(let blockers) = reply else { throw Violation(description: "expected busy: \(reply)") }
            try bench.equal(blockers.map(\.reference), [held.id.reference])
            try bench.equal(blockers.first?.owner, held.owner)
            let status = try await bench.a.store.status(of: name)
            try bench.equal(status.waiters.count, 0)
        },
        Case("An acquire that is sent twice is one hold, and one release frees it") { bench in
            let name = try bench.resource()
            let request = bench.request(name, by: bench.a)
            let token = try await bench.take(request, bench.a)
            try bench.equal(try await bench.take(request, bench.a), token)
            if keepsLeases(bench.b.store.capabilities) {
                try bench.equal(try await bench.b.store.acquire(request), .granted(token))
            }
            try bench.equal(try await bench.a.store.status(of: name).holders.count, 1)
            try bench.equal(try await bench.a.store.release(request.key), .released)
            try await bench.take(bench.request(name, by: bench.b, contention: .fail), bench.b)
        },
        Case("An acquire that is sent again makes the lease count anew") { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            let request = bench.request(name, by: bench.a, lease: short)
            try await bench.take(request, bench.a)
            for _ in 0..<4 {
                try await bench.subject.pass(short / 2)
                try await bench.take(request, bench.a)
            }
            try bench.equal(try await bench.a.store.release(request.key), .released)
        },
        Case("A late copy of an acquire that was released gets nothing") { bench in
            let request = try await bench.hold(try bench.resource(), bench.a)
            try bench.equal(try await bench.a.store.release(request.key), .released)
            try bench.equal(try await bench.a.store.acquire(request), .finished)
            try bench.check(try await bench.a.store.status(of: request.resource).isFree, "the name is free")
        },
        Case("Tokens rise over releases, expiries, hand-overs and force") { bench in
            let name = try bench.resource()
            let short = bench.subject.shortLease
            var tokens: [FencingToken] = []
            let first = bench.request(name, by: bench.a)
            tokens.append(try await bench.take(first, bench.a))
            let second = try await bench.enqueue(name, bench.b)
            _ = try await bench.a.store.release(first.key)
            tokens.append(try await bench.take(second, bench.b))
            _ = try await bench.a.store.forceRelease(name)
            tokens.append(try await bench.take(bench.request(name, by: bench.a, lease: short), bench.a))
            try await bench.passShortLease()
            let last = bench.request(name, by: bench.b)
            tokens.append(try await bench.take(last, bench.b))
            _ = try await bench.b.store.release(last.key)
            tokens.append(try await bench.take(bench.request(name, by: bench.a), bench.a))
            try bench.check(zip(tokens, tokens.dropFirst()).allSatisfy { $0 < $1 }, "tokens rise: \(tokens)")
            try bench.check(tokens.allSatisfy { $0 > .zero && $0.rawValue < 1 << 53 }, "tokens fit: \(tokens)")
        },
        Case("Names with odd characters are names like others") { bench in
            let odd = [
                "it's \"quoted\"", "]]--", "a;b,c|d", "%00%s%n", "*?[x]", "\\back\\slash", "naïve/日本語/👩‍👩‍👧", " ", ":",
                "x y",
                "e\u{301}", "\u{e9}",
            ]
            for text in odd {
                let name = try bench.resource(text)
                let held = try await bench.hold(name, bench.a)
                let waiter = try await bench.enqueue(name, bench.b)
                try bench.equal(try await bench.b.store.status(of: name).resource, name)
                try bench.equal(try await bench.a.store.release(held.key), .released)
                try await bench.take(waiter, bench.b)
                try bench.equal(try await bench.b.store.release(waiter.key), .released)
            }
        },
        Case("The longest name is a name like others") { bench in
            let length = Resource.maximumLength - bench.subject.namePrefix.utf8.count
            let held = try await bench.hold(try bench.resource(String(repeating: "n", count: length)), bench.a)
            try bench.equal(try await bench.a.store.status(of: held.resource).holders.count, 1)
            try bench.equal(try await bench.a.store.release(held.key), .released)
        },
        Case("Names that differ only in Unicode composition are two names") { bench in
            _ = try await bench.hold(try bench.resource("\u{e9}"), bench.a)
            _ = try await bench.hold(try bench.resource("e\u{301}"), bench.b)
        },
        Case("A hundred clients: one holder at a time, and everybody's turn comes") { bench in
            let name = try bench.resource()
            let counter = HolderCounter()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<100 {
                    let client = number.isMultiple(of: 2) ? bench.a : bench.b
                    group.addTask {
                        let request = bench.request(name, by: client)
                        var reply = try await client.store.acquire(request)
                        while case .waiting = reply {
                            try await bench.granted(request, client)
                            reply = try await client.store.acquire(request)
                        }
                        try bench.check(counter.enter() == 1, "one holder at a time")
                        await Task.yield()
                        counter.leave()
                        try bench.equal(try await client.store.release(request.key), .released)
                    }
                }
                try await group.waitForAll()
            }
            try bench.equal(counter.total, 100)
        },
    ]
}
