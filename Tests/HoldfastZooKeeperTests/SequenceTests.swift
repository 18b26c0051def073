// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastZooKeeper
import Testing

/// The order of nodes by their numbers, which go on below zero after 2,147,483,647 (kazoo#606, go-zookeeper PR#65).
@Suite("Sequence numbers")
struct SequenceTests {
    private static func name(_ digits: String) -> String { "_c_00000000-0000-0000-0000-000000000000-lock-\(digits)" }

    private static func contender(_ digits: String) -> LockName? {
        guard case .contender(let name) = LockName.read(Self.name(digits), as: .curator) else { return nil }
        return name
    }

    @Test(
        "Are read as the servers write them",
        arguments: [
            ("0000000000", 0), ("0000000042", 42), ("2147483647", Int32.max), ("-2147483648", Int32.min),
            ("-000000001", -1), ("-1000000000", -1_000_000_000),
        ]
    )
    func read(_ digits: String, _ sequence: Int32) {
        #expect(Self.contender(digits)?.sequence == sequence)
    }

    @Test("Overflow does not let the newest node go first (Z9, pain 23: kazoo#606)")
    func overflow() {
        let inOrder = ["2147483646", "2147483647", "-2147483648", "-2147483647"].map(Self.name)
        for rotation in 0..<4 {
            let view = QueueView(Array(inOrder[rotation...] + inOrder[..<rotation]), .curator)
            #expect(view.contenders.map(\.text) == inOrder)
            #expect(view.verdict(at: 0) == .granted)
            for index in 1..<4 { #expect(view.verdict(at: index) == .blocked(position: index - 1, watch: [index - 1])) }
        }
    }

    @Test("Are written as they are read", arguments: [0, 7, Int32.max, Int32.min, -1, -1_000_000_000] as [Int32])
    func replacement(_ sequence: Int32) {
        let name = LockName.replacement(.curator, guid: "g", .shared, .held, sequence: sequence)
        #expect(LockName.read(name.text, as: .curator) == .contender(name))
    }
}
