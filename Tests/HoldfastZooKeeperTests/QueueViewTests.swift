// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastZooKeeper
import Testing

/// Who holds and who waits, from names alone.
@Suite("The queue of a lock in ZooKeeper")
struct QueueViewTests {
    /// A queue of modes; a `!` marks an upgrade node, a `=` one that took another's place.
    private static func view(_ line: String) -> QueueView {
        let names = line.split(separator: " ").enumerated().map { number, word -> String in
            let modes: [Character: LockMode] = ["s": .shared, "u": .update, "x": .exclusive, "p": .permit(of: 2)]
            let mode = modes[word.first ?? "x"] ?? .exclusive
            let standing: LockName.Standing = word.hasSuffix("!") ? .upgrade : word.hasSuffix("=") ? .held : .queued
            let guid = "0000000\(number)-0000-0000-0000-000000000000"
            return LockName.replacement(.curator, guid: guid, mode, standing, sequence: Int32(number)).text
        }
        return QueueView(names.shuffled(), .curator)
    }

    @Test(
        "Holders are the longest run from the front that fits",
        arguments: [
            ("x", [0]), ("x x", [0]), ("s s x s", [0, 1]), ("s u s", [0, 1, 2]), ("s u u s", [0, 1]), ("u s", [0, 1]),
            ("p p p", [0, 1]), ("p p x p", [0, 1]), ("s= x", [0]), ("u! s", [0]), ("s u! s", [0, 1]), ("x s", [0]),
        ] as [(String, [Int])]
    )
    func holders(_ line: String, _ expected: [Int]) {
        #expect(Self.view(line).holders() == expected)
    }

    @Test(
        "A waiter watches what has to go before it, and no more",
        arguments: [
            ("x x x", 2, [1]), ("s s x", 2, [1]), ("x x s s", 3, [1]), ("x s s s", 3, [0]), ("u u s", 2, [0, 1]),
            ("s x u", 2, [1]), ("p p p", 2, [0, 1]), ("p p p p", 3, [1, 2]), ("x p", 1, [0]), ("s u! s", 2, [1]),
        ] as [(String, Int, [Int])]
    )
    func watches(_ line: String, _ index: Int, _ expected: [Int]) {
        guard case .blocked(_, let watch) = Self.view(line).verdict(at: index) else {
            Issue.record("granted")
            return
        }
        #expect(watch == expected)
    }

    @Test("One of the watched goes whenever a waiter's turn comes", arguments: 0..<500)
    func watchesAreEnough(_ seed: Int) {
        var generator = SeededNumbers(seed: UInt64(seed))
        let count = Int.random(in: 2...7, using: &generator)
        let words = (0..<count).map { _ in ["s", "u", "x", "s", "p"].randomElement(using: &generator) ?? "x" }
        // A queue has permits or the other modes.
        let line =
            words.contains("p") && Bool.random(using: &generator) ? words.map { _ in "p" } : words.filter { $0 != "p" }
        guard line.count > 1 else { return }
        let view = Self.view(line.joined(separator: " "))
        let last = view.contenders.count - 1
        guard case .blocked(_, let watch) = view.verdict(at: last) else { return }
        // Whichever others go: as long as the watched are there, nothing changes for the last one.
        for gone in 0..<(1 << last) {
            let left = view.contenders.indices.filter { $0 == last || gone & (1 << $0) == 0 }
            guard watch.allSatisfy(left.contains) else { continue }
            let rest = QueueView(left.map { view.contenders[$0].text }, .curator)
            #expect(rest.verdict(at: left.count - 1) != .granted, "\(line), left \(left)")
        }
    }

    @Test(
        "Names of other layouts are strangers, and others junk",
        arguments: [
            ("_c_0d1f-lock-0000000001", ["curator"]), ("_c_0d1f-__READ__0000000001", ["curator-rw"]),
            ("_c_0d1f-__WRIT__0000000001", ["curator-rw"]), ("0d1f__lock__0000000001", ["kazoo"]),
            ("0d1f__rlock__0000000001", ["kazoo"]), ("lock-0000000001", []), ("x-0123456789abcdef-0000000001", []),
        ] as [(String, [String])]
    )
    func strangers(_ name: String, _ homes: [String]) {
        for layout in ZooKeeperConfiguration.Layout.allCases {
            switch LockName.read(name, as: layout) {
            case .contender: #expect(homes.contains(layout.rawValue))
            case .stranger: #expect(!homes.contains(layout.rawValue))
            case .junk: Issue.record("\(name) is ignored in \(layout)")
            }
        }
    }

    @Test(
        "What is no lock is ignored",
        arguments: [
            "", "readme", "leases", "lock-", "-lock-1", "_c_-lock-abc", "0000000001", "_c_x-latch-0000000001",
            "é-0000000001",
        ]
    )
    func junk(_ name: String) {
        for layout in ZooKeeperConfiguration.Layout.allCases {
            #expect(LockName.read(name, as: layout) == .junk)
        }
    }

    @Test(
        "Paths and names of resources are each other's",
        arguments: [
            "a", "a/b", "/", "//", "a//b", ".", "..", "./../x", "%", "100%25", "zookeeper", "zookeeper/x", ".holdfast",
            ".holdfast/waits", "naïve/日本語/👩‍👩‍👧", "_c_0d1f-lock-0000000001", "x/0d1f__lock__0000000001", "\u{e000}",
            "\u{fff0}",
        ]
    )
    func paths(_ name: String) throws {
        let resource = try Resource(name)
        for root in ["", "/locks"] {
            let path = LockPath.path(of: resource, below: root)
            #expect(LockPath.resource(at: path, below: root) == resource)
            #expect(LockPath.problem(withRoot: path) == nil)
            let parts = path.dropFirst(root.count).split(separator: "/")
            #expect(parts.first != "zookeeper" && parts.first != ".holdfast")
            for layout in ZooKeeperConfiguration.Layout.allCases {
                for part in parts { #expect(LockName.read(String(part), as: layout) == .junk) }
            }
        }
    }
}

/// The same numbers for the same seed (SplitMix64).
private struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var word = self.state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
