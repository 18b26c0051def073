// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore

extension TierContract {
    /// Writing, and who may.
    static let versions: [Case] = [
        Case("What one client writes, another reads byte for byte") { bench in
            let payloads: [[UInt8]] = [
                [], [0], Array(0...255), Array("\r\n$-1\r\n".utf8), Array(repeating: 7, count: 300_000),
            ]
            for (number, payload) in payloads.enumerated() {
                let write = TierWrite(key: "\(number)", payload: payload, timeToLive: .seconds(60))
                let reply = try await bench.a.write([write], in: bench.namespace)
                let entry = try await bench.read("\(number)")
                try bench.check(entry.payload == payload, "payload \(number) changed on its way")
                try bench.equal(reply, [.written(version: entry.version)])
            }
        },
        Case("An entry says how long ago it was written") { bench in
            try await bench.write("x", "1")
            let life = bench.subject.shortLife
            try await bench.subject.pass(life)
            let age = try await bench.age(of: "x")
            try bench.check(age >= life * 0.9 && age < life + .seconds(30), "written \(life) ago, it says \(age)")
            try await bench.write("x", "2")
            let next = try await bench.age(of: "x")
            try bench.check(next >= .zero && next < age, "written a moment ago, it says \(next)")
        },
        Case("Where nothing was, there is nothing, with version 0") { bench in
            let reading = try await bench.a.read(["x", "y"], in: bench.namespace)
            try bench.equal(reading.entries, [.absent, .absent])
            try bench.equal(reading.marks, TierMarks(current: reading.marks.current))
            try bench.check(reading.marks.current <= 1, "a mark before anything was invalidated")
            try bench.equal(try await bench.a.read([], in: bench.namespace).entries, [])
            try bench.equal(try await bench.a.write([], in: bench.namespace), [])
            try bench.equal(try await bench.a.remove([], in: bench.namespace, keepFor: .seconds(1)), [])
        },
        Case("Versions of a key only grow, over writes, removals and new entries") { bench in
            var last: UInt64 = 0
            for round in 0..<20 {
                let tier = round % 2 == 0 ? bench.a : bench.b
                let version: UInt64
                switch round % 4 {
                case 1: version = try await tier.remove(["x"], in: bench.namespace, keepFor: .seconds(60))[0]
                case 2: version = try await bench.write("x", "\(round)", if: .version(last), by: tier)
                default: version = try await bench.write("x", "\(round)", by: tier)
                }
                try bench.check(version > last, "version \(version) after \(last)")
                last = version
                try bench.equal(try await bench.read("x").version, version)
            }
        },
        Case("Versions grow also when tombstone and entry are gone") { bench in
            let first = try await bench.write("x", "1")
            let second = try await bench.remove("x", keepFor: bench.subject.shortLife)
            try await bench.passShortLife()
            try bench.equal(try await bench.read("x"), .absent)
            let third = try await bench.write("x", "2", life: bench.subject.shortLife)
            try await bench.passShortLife()
            try bench.equal(try await bench.read("x"), .absent)
            let fourth = try await bench.write("x", "3", if: .version(0))
            try bench.check(first < second && second < third && third < fourth, "\([first, second, third, fourth])")
        },
        Case("A write on a version is refused where another is, and says which") { bench in
            let first = try await bench.write("x", "1")
            let second = try await bench.write("x", "2", if: .version(first))
            for version in [0, 1, first, second + 1, .max] {
                let reply = try await bench.put("x", "3", if: .version(version))
                try bench.equal(reply, .refused(version: second))
            }
            try bench.equal(try await bench.read("x"), TierEntry(payload: Array("2".utf8), version: second))
        },
        Case("A write on a version goes through where nothing is any more") { bench in
            let version = try await bench.write("x", "1", life: bench.subject.shortLife)
            try await bench.passShortLife()
            let next = try await bench.write("x", "2", if: .version(version))
            try bench.check(next > version, "\(next) after \(version)")
            try await bench.write("never there", "1", if: .version(7))
        },
        Case("A lower fencing token does not write over a higher one") { bench in
            for (old, new, isWritten) in [
                (7, 6, false), (7, 7, true), (7, 8, true), (7, 0, true), (0, 1, true), (.max, .max - 1, false),
                (.max - 1, .max, true), (9, 10, true), (10, 9, false),
            ] as [(UInt64, UInt64, Bool)] {
                let version = try await bench.write("x", "old", token: old)
                let reply = try await bench.put("x", "new", if: .version(version), token: new)
                switch reply {
                case .written: try bench.check(isWritten, "\(new) was written over \(old)")
                case .refused(let present):
                    try bench.check(!isWritten, "\(new) was refused over \(old)")
                    try bench.equal(present, version)
                }
            }
            // Whatever is there.
            try await bench.write("x", "old", token: 9)
            try await bench.write("x", "new", token: 1)
            try bench.equal(try await bench.read("x").payload, Array("new".utf8))
        },
        Case("Of many who write on the same version one is accepted") { bench in
            let version = try await bench.write("x", "0")
            let written = try await withThrowingTaskGroup(of: TierWriteReply.self) { group in
                for number in 0..<20 {
                    group.addTask {
                        let tier = number % 2 == 0 ? bench.a : bench.b
                        return try await bench.put("x", "\(number)", if: .version(version), by: tier)
                    }
                }
                return try await group.reduce(into: 0) { count, reply in if case .written = reply { count += 1 } }
            }
            try bench.equal(written, 1)
        },
        Case("Each write of a batch is accepted or refused by itself, and each key read by itself") { bench in
            let version = try await bench.write("b", "1")
            let held = try await bench.write("d", "1", token: 9)
            let writes = [
                TierWrite(key: "a", payload: [1], timeToLive: .seconds(60), condition: .version(0)),
                TierWrite(key: "b", payload: [2], timeToLive: .seconds(60), condition: .version(version)),
                TierWrite(key: "c", payload: [3], timeToLive: .seconds(60)),
                TierWrite(key: "d", payload: [4], timeToLive: .seconds(60), condition: .version(held), token: 8),
                TierWrite(key: "e", payload: [5], timeToLive: .seconds(60), condition: .version(5)),
            ]
            var replies = try await bench.a.write(writes, in: bench.namespace)
            try bench.equal(replies.count, 5)
            try bench.equal(replies.remove(at: 3), .refused(version: held))
            for reply in replies { guard case .written = reply else { throw bench.broken("written", reply, #line) } }
            let reading = try await bench.b.read(["e", "d", "none", "c", "b", "a"], in: bench.namespace)
            try bench.equal(reading.entries.map(\.payload), [[5], Array("1".utf8), nil, [3], [2], [1]])
            try bench.equal(reading.entries[2], .absent)
        },
        Case("A batch takes as many keys as is said") { bench in
            let keys = (0..<CacheLimits.maximumBatch).map { "\($0)" }
            let replies = try await bench.a.write(
                keys.map { TierWrite(key: $0, payload: Array($0.utf8), timeToLive: .seconds(60)) },
                in: bench.namespace
            )
            try bench.equal(replies.count, keys.count)
            let reading = try await bench.b.read(keys.reversed(), in: bench.namespace)
            try bench.equal(reading.entries.map(\.payload), keys.reversed().map { Array($0.utf8) })
            try bench.equal(Set(try await bench.keys()), Set(keys))
            let versions = try await bench.b.remove(keys, in: bench.namespace, keepFor: .seconds(60))
            try bench.equal(try await bench.a.read(keys, in: bench.namespace).entries.map(\.version), versions)
        },
    ]

    /// Removing, and what it protects from.
    static let removals: [Case] = [
        Case("A removed key has no payload and the version of its tombstone") { bench in
            try await bench.write("x", "1")
            let version = try await bench.remove("x")
            try bench.equal(try await bench.read("x"), TierEntry(payload: nil, version: version))
            let never = try await bench.remove("never there")
            try bench.equal(try await bench.read("never there"), TierEntry(payload: nil, version: never))
        },
        Case("A writer from before a removal is refused, one from after it is not") { bench in
            let seen = try await bench.write("x", "1", token: 9)
            let removed = try await bench.remove("x")
            for version in [0, seen] {
                try bench.equal(
                    try await bench.put("x", "stale", if: .version(version), token: 10),
                    .refused(version: removed)
                )
            }
            // The token is that of an entry, and there is none.
            try await bench.write("x", "2", if: .version(removed), token: 3)
            try bench.equal(
                try await bench.remove("never there") > 0,
                true
            )
            let reply = try await bench.put("never there", "stale", if: .version(0))
            guard case .refused = reply else { throw bench.broken("refused", reply, #line) }
        },
        Case("What was loaded under a lost lock gives way to what its successor loads, if both saw the same") { bench in
            let seen = try await bench.write("x", "seen", token: 3)
            let late = try await bench.write("x", "late", if: .version(seen), token: 5)
            let next = try await bench.write("x", "next", if: .version(seen), token: 7)
            try bench.check(next > late, "version \(next) after \(late)")
            // And he who comes still later not to any of them.
            try bench.equal(try await bench.put("x", "later", if: .version(late), token: 6), .refused(version: next))
            try bench.equal(try await bench.put("x", "none", if: .version(seen), token: 0), .refused(version: next))
            let last = try await bench.write("x", "last", if: .version(seen), token: 8)
            try bench.equal(try await bench.read("x"), TierEntry(payload: Array("last".utf8), version: last))
            // Where nothing was.
            try await bench.write("y", "late", if: .version(0), token: 5)
            try await bench.write("y", "next", if: .version(0), token: 7)
        },
        Case("What was written over a change that a writer has not seen never gives way to him") { bench in
            let seen = try await bench.write("x", "seen", token: 3)
            let removed = try await bench.remove("x")
            let after = try await bench.write("x", "after", if: .version(removed), token: 5)
            try bench.equal(try await bench.put("x", "stale", if: .version(seen), token: 7), .refused(version: after))
            let set = try await bench.write("x", "set")
            let loaded = try await bench.write("x", "loaded", if: .version(set), token: 5)
            try bench.equal(try await bench.put("x", "stale", if: .version(after), token: 7), .refused(version: loaded))
            let plain = try await bench.write("x", "plain", token: 5)
            try bench.equal(try await bench.put("x", "stale", if: .version(loaded), token: 7), .refused(version: plain))
            // Nor once a late one has been written over.
            let late = try await bench.write("x", "late", if: .version(plain), token: 6)
            let next = try await bench.write("x", "next", if: .version(plain), token: 7)
            try bench.check(next > late, "version \(next) after \(late)")
            try bench.equal(try await bench.put("x", "stale", if: .version(loaded), token: 9), .refused(version: next))
        },
        Case("An entry that ends before the tombstone it was written over leaves the rest of it behind") { bench in
            let seen = try await bench.write("x", "1")
            let removed = try await bench.remove("x")
            let version = try await bench.write("x", "2", life: bench.subject.shortLife, if: .version(removed))
            try bench.equal(try await bench.read("x"), TierEntry(payload: Array("2".utf8), version: version))
            // Twice: what is written over it does not lose the tombstone either.
            let last = try await bench.write("x", "3", life: bench.subject.shortLife, if: .version(version), token: 5)
            try bench.equal(try await bench.put("x", "4", if: .version(last), token: 4), .refused(version: last))
            try await bench.passShortLife()
            try bench.equal(try await bench.read("x"), TierEntry(payload: nil, version: last))
            for old in [0, seen, removed, version] {
                try bench.equal(try await bench.put("x", "stale", if: .version(old)), .refused(version: last))
            }
            try await bench.write("x", "5", if: .version(last), token: 4)
        },
        Case("An entry that outlives the tombstone it was written over is there until its end") { bench in
            let removed = try await bench.remove("x", keepFor: bench.subject.shortLife)
            let version = try await bench.write("x", "2", if: .version(removed))
            try await bench.passShortLife()
            try bench.equal(try await bench.read("x"), TierEntry(payload: Array("2".utf8), version: version))
        },
        Case("A second removal does not shorten the first one") { bench in
            let seen = try await bench.write("x", "1")
            _ = try await bench.remove("x")
            let second = try await bench.remove("x", keepFor: bench.subject.shortLife)
            try await bench.passShortLife()
            try bench.equal(try await bench.put("x", "stale", if: .version(seen)), .refused(version: second))
        },
        Case("A tombstone ends") { bench in
            let seen = try await bench.write("x", "1")
            _ = try await bench.remove("x", keepFor: bench.subject.shortLife)
            try await bench.passShortLife()
            try bench.equal(try await bench.read("x"), .absent)
            try await bench.write("x", "2", if: .version(seen))
        },
    ]

    /// Times to live.
    static let lives: [Case] = [
        Case("An entry ends with its time to live, and not before") { bench in
            try await bench.write("short", "1", life: bench.subject.shortLife)
            try await bench.write("long", "1")
            try await bench.write("renewed", "1", life: bench.subject.shortLife)
            try await bench.write("renewed", "2")
            try bench.equal(try await bench.read("short").payload, Array("1".utf8))
            try await bench.passShortLife()
            try bench.equal(try await bench.read("short"), .absent)
            try bench.equal(try await bench.read("long").payload, Array("1".utf8))
            try bench.equal(try await bench.read("renewed").payload, Array("2".utf8))
        },
        Case("A time to live of less than a millisecond is one, and a very long one does no harm") { bench in
            for life in [.zero, .nanoseconds(1), .milliseconds(-5)] as [Duration] {
                try await bench.write("x", "1", life: life)
                try await bench.subject.pass(.milliseconds(20))
                try bench.equal(try await bench.read("x"), .absent)
            }
            try await bench.write("x", "1", life: .seconds(Int64.max))
            _ = try await bench.a.remove(["y"], in: bench.namespace, keepFor: .seconds(Int64.max))
            let removed = try await bench.read("y").version
            let version = try await bench.write("y", "2", life: bench.subject.shortLife, if: .version(removed))
            try await bench.passShortLife()
            try bench.equal(try await bench.read("y"), TierEntry(payload: nil, version: version))
            try bench.equal(try await bench.read("x").payload, Array("1".utf8))
        },
    ]
}
