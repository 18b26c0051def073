// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import Synchronization

extension TierContract {
    private static let long: Duration = .seconds(60)

    /// Invalidating.
    static let marks: [Case] = [
        Case("Each invalidation gives a mark above all before, whatever it is about") { bench in
            var last: UInt64 = 0
            let scopes: [InvalidationScope] = [.tag("a"), .all, .prefix("x"), .tag("a"), .prefix("x"), .tag("b"), .all]
            for (number, scope) in scopes.enumerated() {
                let tier = number % 2 == 0 ? bench.a : bench.b
                let mark = try await tier.invalidate(scope, in: bench.namespace, keepFor: Self.long)
                try bench.check(mark > last, "mark \(mark) after \(last)")
                last = mark
                try bench.equal(try await bench.marks().current, mark)
            }
        },
        Case("Invalidations at the same moment get marks of their own") { bench in
            let marks = try await withThrowingTaskGroup(of: UInt64.self) { group in
                for number in 0..<40 {
                    group.addTask {
                        let scope: InvalidationScope = [.all, .tag("t"), .prefix("p")][number % 3]
                        let tier = number % 2 == 0 ? bench.a : bench.b
                        return try await tier.invalidate(scope, in: bench.namespace, keepFor: Self.long)
                    }
                }
                return try await group.reduce(into: Set<UInt64>()) { $0.insert($1) }
            }
            try bench.equal(marks.count, 40)
            try bench.equal(try await bench.marks().current, marks.max() ?? 0)
        },
        Case("An invalidation of everything is seen by all, and admits what comes after") { bench in
            let tag = try await bench.a.invalidate(.tag("t"), in: bench.namespace, keepFor: Self.long)
            try bench.equal(try await bench.marks().all, 0)
            let mark = try await bench.a.invalidate(.all, in: bench.namespace, keepFor: Self.long)
            let marks = try await bench.marks()
            try bench.equal(marks.all, mark)
            try bench.check(!marks.admits("x", since: tag), "what is older is valid")
            try bench.check(marks.admits("x", since: marks.current), "what is loaded now is not valid")
        },
        Case("An invalidation of a prefix is about the keys that start so, and the last one counts") { bench in
            let prefixes = ["users/", "us", "{x}", "a b\n", "日", "users/1", "\0", "*", "0006 users/"]
            var marks: [String: UInt64] = [:]
            let before = try await bench.a.invalidate(.tag("t"), in: bench.namespace, keepFor: Self.long)
            for prefix in prefixes + ["us"] {
                marks[prefix] = try await bench.a.invalidate(.prefix(prefix), in: bench.namespace, keepFor: Self.long)
            }
            let found = try await bench.marks()
            try bench.equal(found.all, 0)
            for (prefix, mark) in marks {
                try bench.check(!found.admits(prefix + "x", since: mark - 1), "\(prefix) is not invalid")
                try bench.check(found.admits(prefix + "x", since: found.current), "\(prefix) is never valid")
            }
            try bench.check(
                !found.admits("users/1", since: (marks["us"] ?? 0) - 1),
                "a longer prefix hides a shorter one"
            )
            for key in ["", "u", "Users/", "x{x}", "user"] where !key.hasPrefix("us") {
                try bench.check(found.admits(key, since: before), "\(key) is invalid too")
            }
        },
        Case("An invalidation of the empty prefix is one of everything") { bench in
            let mark = try await bench.a.invalidate(.prefix(""), in: bench.namespace, keepFor: Self.long)
            let marks = try await bench.marks()
            for key in ["", "x"] {
                try bench.check(!marks.admits(key, since: mark - 1) && marks.admits(key, since: mark), "\(marks)")
            }
        },
        Case("Prefixes whose texts are equal but not their bytes are two") { bench in
            let first = try await bench.a.invalidate(.prefix("\u{E4}"), in: bench.namespace, keepFor: Self.long)
            let second = try await bench.a.invalidate(.prefix("a\u{308}"), in: bench.namespace, keepFor: Self.long)
            let marks = try await bench.marks()
            try bench.check(!marks.admits("\u{E4}x", since: first - 1), "the first is forgotten")
            try bench.check(!marks.admits("a\u{308}x", since: second - 1), "the second is forgotten")
        },
        Case("One prefix too many is an invalidation of everything, and none is forgotten") { bench in
            for number in 0..<CacheLimits.maximumPrefixes {
                _ = try await bench.a.invalidate(.prefix("p\(number)/"), in: bench.namespace, keepFor: Self.long)
            }
            var marks = try await bench.marks()
            try bench.equal(marks.all, 0)
            try bench.equal(marks.prefixes.count, CacheLimits.maximumPrefixes)
            try bench.check(marks.admits("other", since: 0), "others are invalid already")
            let mark = try await bench.a.invalidate(.prefix("more/"), in: bench.namespace, keepFor: Self.long)
            marks = try await bench.marks()
            try bench.check(marks.prefixes.count <= CacheLimits.maximumPrefixes, "\(marks.prefixes.count) prefixes")
            for key in ["more/", "p0/x", "p63/x", "other"] {
                try bench.check(!marks.admits(key, since: mark - 1), "\(key) is valid")
                try bench.check(marks.admits(key, since: mark), "\(key) is never valid")
            }
        },
        Case("Prefixes whose time is over make room") { bench in
            for number in 0..<CacheLimits.maximumPrefixes {
                let scope = InvalidationScope.prefix("p\(number)/")
                _ = try await bench.a.invalidate(scope, in: bench.namespace, keepFor: bench.subject.shortLife)
            }
            try await bench.passShortLife()
            _ = try await bench.a.invalidate(.prefix("more/"), in: bench.namespace, keepFor: Self.long)
            let marks = try await bench.marks()
            try bench.equal(marks.all, 0)
            try bench.equal(Array(marks.prefixes.keys), ["more/"])
        },
        Case("A tag has the mark of its last invalidation, and 0 before") { bench in
            let tags = [
                "a", "b", "", " ", "\0", "{a}", "}", "a:b", "*", "ä", "a\u{308}", String(repeating: "t", count: 128),
            ]
            try bench.equal(try await bench.b.marks(of: tags, in: bench.namespace), tags.map { _ in 0 })
            try bench.equal(try await bench.b.marks(of: [], in: bench.namespace), [])
            var expected: [UInt64] = []
            for tag in tags {
                expected.append(try await bench.a.invalidate(.tag(tag), in: bench.namespace, keepFor: Self.long))
            }
            try bench.equal(try await bench.b.marks(of: tags, in: bench.namespace), expected)
            expected[1] = try await bench.a.invalidate(.tag("b"), in: bench.namespace, keepFor: Self.long)
            try bench.equal(try await bench.b.marks(of: tags, in: bench.namespace), expected)
            let unordered = try await bench.b.marks(of: ["none", "b", "none"], in: bench.namespace)
            try bench.equal(unordered, [0, expected[1], 0])
            // Tags are not in the way of what concerns all.
            try bench.equal(try await bench.marks(), TierMarks(current: expected.max() ?? 0))
        },
        Case("A later invalidation for a shorter time does not shorten an earlier one") { bench in
            _ = try await bench.a.invalidate(.all, in: bench.namespace, keepFor: Self.long)
            let tag = try await bench.a.invalidate(.tag("t"), in: bench.namespace, keepFor: Self.long)
            let short = bench.subject.shortLife
            let last = try await bench.a.invalidate(.tag("t"), in: bench.namespace, keepFor: short)
            _ = try await bench.a.invalidate(.tag("u"), in: bench.namespace, keepFor: short)
            try await bench.passShortLife()
            try bench.equal(try await bench.b.marks(of: ["t"], in: bench.namespace), [last])
            let marks = try await bench.marks()
            try bench.check(marks.all > 0 && marks.current >= tag, "\(marks)")
        },
        Case("Marks of a reading are not later than its entries", Self.readsMarksFirst),
    ]

    /// Each mark is set after the entry of its number was written: who sees the mark must see the entry.
    @Sendable private static func readsMarksFirst(_ bench: TierBench) async throws {
        let progress = MarkProgress()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 0..<4 {
                group.addTask {
                    let tier = reader % 2 == 0 ? bench.a : bench.b
                    let keys = ["x"] + (0..<3).map { "other \($0)" }
                    while !progress.isOver.load(ordering: .relaxed) {
                        let reading = try await tier.read(keys, in: bench.namespace)
                        // A tier in memory never waits, and the writer needs a thread too.
                        await Task.yield()
                        let seen = Int(String(decoding: reading.entries[0].payload ?? [48], as: UTF8.self)) ?? 0
                        // The reply of an invalidation may come after a reader saw its mark.
                        guard let number = progress.given.withLock({ $0[reading.marks.current] }) else { continue }
                        try bench.check(seen >= number, "mark \(number) came with entry \(seen)")
                    }
                }
            }
            group.addTask {
                defer { progress.isOver.store(true, ordering: .relaxed) }
                for number in 1...150 {
                    try await bench.write("x", "\(number)")
                    let mark = try await bench.a.invalidate(.all, in: bench.namespace, keepFor: Self.long)
                    progress.given.withLock { $0[mark] = number }
                }
            }
            try await group.waitForAll()
        }
    }
}

/// Which mark was set after which entry.
private final class MarkProgress: Sendable {
    let given = Mutex<[UInt64: Int]>([:])
    let isOver = Atomic(false)

    init() {}
}
