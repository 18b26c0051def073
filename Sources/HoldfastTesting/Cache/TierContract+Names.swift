// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore

extension TierContract {
    /// Keys that are easily taken for something else.
    private static let hostile: [String] = [
        "", " ", "a", "A", "\0", "a\0", "a\0b", "\n", "a\r\nb", "{", "}", "{}", "{a}", "{a}b", "a{}b", "a{b}c{d}", "}{",
        "{{a}}",
        "*", "a*", "?", "[a]", "[^a]", "\\", "\\*", "a-b", ":", "a:", ":a", "%3A", "%", "$1", "'", "\"", "ä",
        "a\u{308}", "日本",
        "👩‍👩‍👧‍👦", "\u{FEFF}", "m", "t:x", "{m", String(repeating: "k", count: CacheLimits.maximumKey),
        String(repeating: "é", count: CacheLimits.maximumKey / 2),
    ]

    /// Keys and namespaces.
    static let names: [Case] = [
        Case("Any key is a key, and none is another") { bench in
            let keys = Self.hostile
            for (number, key) in keys.enumerated() { try await bench.write(key, "\(number)") }
            for (number, key) in keys.enumerated() {
                let payload = try await bench.read(key).payload
                try bench.check(payload == Array("\(number)".utf8), "key \(number) has what another wrote")
            }
            let listed = try await bench.keys()
            try bench.equal(Set(listed.map { Array($0.utf8) }), Set(keys.map { Array($0.utf8) }))
            // Every second one goes, the others stay.
            for (number, key) in keys.enumerated() where number % 2 == 0 { _ = try await bench.remove(key) }
            let entries = try await bench.b.read(keys, in: bench.namespace).entries
            for (number, entry) in entries.enumerated() {
                try bench.check((entry.payload == nil) == (number % 2 == 0), "key \(number) went with another")
            }
        },
        Case("A list of keys has those that start so, and no others") { bench in
            let keys = [
                "users/1", "users/2", "users", "usersAbc", "Users/1", "us*rs/1", "a[b]c", "a[b]d", "ab", "\\x", "x",
            ]
            for key in keys { try await bench.write(key, "1") }
            _ = try await bench.remove("never there")
            for prefix in ["", "users/", "users", "us*", "a[b]", "a", "\\", "?", "none"] {
                let found = try await bench.keys(prefix)
                let expected = keys.filter { $0.utf8.starts(with: prefix.utf8) }
                try bench.check(Set(found).isSuperset(of: expected), "\(prefix): \(found)")
                try bench.check(found.allSatisfy { $0.utf8.starts(with: prefix.utf8) }, "\(prefix): \(found)")
            }
        },
        Case("No namespace sees the entries of another") { bench in
            let base = bench.namespace
            let names = ["", "Abc", ":x", ":", "%3Ax", "{", "}", "{}", "{x}", "*", "?", "[a]", "\\", "ä", "\0", "%"].map
            {
                base + $0
            }
            let keys = ["k", "x:k", ":k", "m", "t:k", "", "{x}:k"]
            for name in names {
                for key in keys {
                    let write = TierWrite(key: key, payload: Array("\(name) \(key)".utf8), timeToLive: .seconds(60))
                    _ = try await bench.a.write([write], in: name)
                }
                _ = try await bench.a.invalidate(.tag(name), in: name, keepFor: .seconds(60))
            }
            for name in names {
                let entries = try await bench.b.read(keys, in: name).entries
                let expected = keys.map { Array("\(name) \($0)".utf8) as [UInt8]? }
                try bench.check(entries.map(\.payload) == expected, "\(name) has entries of another namespace")
                try bench.equal(Set(try await bench.keys(in: name)), Set(keys))
                let marks = try await bench.b.marks(of: names, in: name)
                try bench.equal(marks.map { $0 > 0 }, names.map { $0 == name })
            }
            _ = try await bench.a.remove(keys, in: names[0], keepFor: .seconds(60))
            let others = try await bench.b.read(keys, in: names[1]).entries
            try bench.check(others.allSatisfy { $0.payload != nil }, "a removal reached another namespace")
        },
    ]

    /// What is refused before anything is done.
    static let limits: [Case] = [
        Case("What is over a limit is refused, with the limit named") { bench in
            let (tier, space) = (bench.a, bench.namespace)
            let write = { TierWrite(key: $0, payload: [], timeToLive: .seconds(60)) }
            let long = String(repeating: "k", count: CacheLimits.maximumKey + 1)
            let multibyte = String(repeating: "é", count: CacheLimits.maximumKey / 2 + 1)
            let second: Duration = .seconds(1)
            for key in [long, multibyte] {
                try await bench.refuses("1024") { _ = try await tier.read(["x", key], in: space) }
                try await bench.refuses("1024") { _ = try await tier.write([write("x"), write(key)], in: space) }
                try await bench.refuses("1024") { _ = try await tier.remove(["x", key], in: space, keepFor: second) }
                try await bench.refuses("1024") {
                    _ = try await tier.invalidate(.prefix(key), in: space, keepFor: second)
                }
                try await bench.refuses("1024") { _ = try await tier.keys(in: space, prefix: key, after: nil) }
            }
            let many = (0...CacheLimits.maximumBatch).map { "\($0)" }
            try await bench.refuses("512") { _ = try await tier.read(many, in: space) }
            try await bench.refuses("512") { _ = try await tier.write(many.map(write), in: space) }
            try await bench.refuses("512") { _ = try await tier.remove(many, in: space, keepFor: second) }
            try await bench.refuses("512") { _ = try await tier.marks(of: many, in: space) }
            let tag = String(repeating: "t", count: CacheLimits.maximumTag + 1)
            try await bench.refuses("128") { _ = try await tier.marks(of: [tag], in: space) }
            try await bench.refuses("128") { _ = try await tier.invalidate(.tag(tag), in: space, keepFor: second) }
            for name in ["", String(repeating: "n", count: CacheLimits.maximumNamespace + 1)] {
                try await bench.refuses("128") { _ = try await tier.read([], in: name) }
                try await bench.refuses("128") { _ = try await tier.write([write("x")], in: name) }
                try await bench.refuses("128") { _ = try await tier.remove(["x"], in: name, keepFor: second) }
                try await bench.refuses("128") { _ = try await tier.invalidate(.all, in: name, keepFor: second) }
                try await bench.refuses("128") { _ = try await tier.marks(of: ["x"], in: name) }
                try await bench.refuses("128") { _ = try await tier.keys(in: name, prefix: "", after: nil) }
            }
            // Nothing was done on the way.
            try bench.equal(try await bench.read("x"), .absent)
            try bench.equal(try await bench.marks().all, 0)
            try bench.equal(try await bench.marks().prefixes, [:])
        },
        Case("A place to go on that is none is refused") { bench in
            for cursor in ["x", "-1", "1:2:3", ""] {
                try await bench.refuses("place") {
                    _ = try await bench.a.keys(in: bench.namespace, prefix: "", after: cursor)
                }
            }
        },
    ]
}
