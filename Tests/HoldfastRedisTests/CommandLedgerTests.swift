// SPDX-License-Identifier: Apache-2.0

import HoldfastRedis
import NIOCore
import Testing

@Suite
struct CommandLedgerTests {
    private static let soon = NIODeadline.uptimeNanoseconds(1000)
    private static let late = NIODeadline.uptimeNanoseconds(9000)

    private static func submit(
        _ number: Int,
        to ledger: inout CommandLedger<Int>,
        deadline: NIODeadline = soon
    ) -> CommandLedger<Int>.Submission {
        ledger.submit(number, deadline: deadline) { $0.command(["ECHO", String(number)]) }
    }

    private static func bytes(_ numbers: [Int]) -> ByteBuffer {
        var encoder = CommandEncoder(ByteBuffer())
        for number in numbers { encoder.command(["ECHO", String(number)]) }
        return encoder.buffer
    }

    @Test
    func `a batch is scheduled once and carries all commands in order`() {
        var ledger = CommandLedger<Int>(capacity: 10)
        #expect(Self.submit(1, to: &ledger) == .scheduleBatch)
        #expect(Self.submit(2, to: &ledger) == .queued)
        ledger.beginBatch()
        #expect(ledger.takeBatch() == Self.bytes([1, 2]))
        #expect(ledger.takeBatch() == nil)
        #expect(Self.submit(3, to: &ledger) == .scheduleBatch)
        #expect(ledger.takeBatch() == Self.bytes([3]))
        #expect(ledger.answered(1) == [1])
        #expect(ledger.answered(2) == [2, 3])
        #expect(ledger.answered(1) == nil)
    }

    @Test
    func `commands that ran out of time before they were sent leave with their bytes`() {
        var ledger = CommandLedger<Int>(capacity: 10)
        _ = Self.submit(1, to: &ledger, deadline: Self.soon)
        _ = Self.submit(22, to: &ledger, deadline: Self.late)
        _ = Self.submit(333, to: &ledger, deadline: Self.soon)
        _ = Self.submit(4, to: &ledger, deadline: Self.late)
        #expect(ledger.deadlineToWatch() == Self.soon)
        #expect(ledger.deadlineToWatch() == nil)
        #expect(ledger.expireUnsent(at: Self.soon) == [1, 333])
        #expect(!ledger.isOverdue(at: Self.late))
        #expect(ledger.takeBatch() == Self.bytes([22, 4]))
        #expect(ledger.isOverdue(at: Self.late))
        #expect(ledger.expireUnsent(at: Self.late).isEmpty)
        #expect(ledger.watchAfter(Self.soon) == Self.late)
        _ = Self.submit(5, to: &ledger, deadline: Self.soon)
        #expect(ledger.deadlineToWatch() == Self.soon)
        #expect(ledger.watchAfter(Self.late) == nil)
    }

    @Test
    func `a lost connection takes what was sent, and leaves what was not`() {
        var ledger = CommandLedger<Int>(capacity: 10)
        _ = Self.submit(1, to: &ledger)
        _ = ledger.takeBatch()
        _ = Self.submit(2, to: &ledger)
        #expect(ledger.connectionLost() == [1])
        #expect(ledger.hasUnsent)
        #expect(ledger.takeBatch() == Self.bytes([2]))
        #expect(ledger.answered(1) == [2])
        #expect(ledger.count == 0)
    }

    @Test
    func `a full or closed ledger takes no more`() {
        var ledger = CommandLedger<Int>(capacity: 2)
        _ = Self.submit(1, to: &ledger)
        _ = ledger.takeBatch()
        _ = Self.submit(2, to: &ledger)
        #expect(Self.submit(3, to: &ledger) == .full)
        #expect(ledger.close() == [1, 2])
        #expect(Self.submit(4, to: &ledger) == .closed)
        #expect(ledger.takeBatch() == nil)
    }

    @Test
    func `over random steps each command leaves exactly once`() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            var ledger = CommandLedger<Int>(capacity: 20)
            var next = 0
            var left: [Int] = []
            for _ in 0..<100 {
                switch Int.random(in: 0..<6, using: &generator) {
                case 0, 1:
                    let deadline = Bool.random(using: &generator) ? Self.soon : Self.late
                    if Self.submit(next, to: &ledger, deadline: deadline) != .full { next += 1 }
                case 2: _ = ledger.takeBatch()
                case 3: left += ledger.answered(min(2, ledger.awaited)) ?? []
                case 4: left += ledger.expireUnsent(at: Self.soon)
                default: if Bool.random(using: &generator) { left += ledger.connectionLost() }
                }
            }
            left += ledger.close()
            #expect(left.sorted() == Array(0..<next))
        }
    }
}
