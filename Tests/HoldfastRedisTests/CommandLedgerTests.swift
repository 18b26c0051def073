// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import NIOCore
import Testing

@Suite
struct CommandLedgerTests {
    private static let soon = NIODeadline.uptimeNanoseconds(1000)
    private static let late = NIODeadline.uptimeNanoseconds(9000)

    @discardableResult
    private static func add(
        _ number: Int,
        to ledger: inout CommandLedger<Int>,
        deadline: NIODeadline = soon
    ) -> Bool {
        ledger.add(number, by: deadline, .command { $0.command(["ECHO", String(number)]) })
    }

    /// Adds the release of a lock of that number.
    private static func addCall(
        _ number: Int,
        to ledger: inout CommandLedger<Int>,
        deadline: NIODeadline = soon,
        isKnown: Bool = true
    ) throws {
        let isTaken = ledger.add(number, by: deadline, .call(try Self.call(number), isKnown: isKnown))
        #expect(isTaken)
    }

    private static func call(_ number: Int) throws -> ScriptCall {
        let key = GrantKey(id: RequestID(high: 1, low: UInt64(number)), resource: try Resource("lock\(number)"))
        guard case .call(let call) = LockCommands(prefix: "").release(key).request else {
            throw LockError(.invalidArgument, "a release is no call")
        }
        return call
    }

    /// The parts of each command in a batch.
    private static func commands(_ bytes: ByteBuffer?) -> [[String]] {
        var parts = String(buffer: bytes ?? ByteBuffer()).split(separator: "\r\n").map(String.init)[...]
        var commands: [[String]] = []
        while let count = parts.popFirst().flatMap({ Int($0.dropFirst()) }) {
            commands.append((0..<count).map { parts[parts.startIndex + 2 * $0 + 1] })
            parts = parts.dropFirst(2 * count)
        }
        return commands
    }

    /// The numbers of those who asked; what several asked in one command stands together.
    private static func numbers(_ askers: [CommandLedger<Int>.Asker]?) -> [[Int]]? { askers?.map(\.tickets) }

    private static func bytes(_ numbers: [Int]) -> ByteBuffer {
        var encoder = CommandEncoder(ByteBuffer())
        for number in numbers { encoder.command(["ECHO", String(number)]) }
        return encoder.buffer
    }

    @Test
    func `a batch carries all commands in order`() {
        var ledger = CommandLedger<Int>()
        Self.add(1, to: &ledger)
        Self.add(2, to: &ledger)
        #expect(ledger.takeBatch() == Self.bytes([1, 2]))
        #expect(ledger.takeBatch() == nil)
        Self.add(3, to: &ledger)
        #expect(ledger.takeBatch() == Self.bytes([3]))
        #expect(Self.numbers(ledger.answered(1)) == [[1]])
        #expect(Self.numbers(ledger.answered(2)) == [[2], [3]])
        #expect(ledger.answered(1) == nil)
    }

    @Test
    func `commands that ran out of time before they were sent leave with their bytes`() {
        var ledger = CommandLedger<Int>()
        Self.add(1, to: &ledger, deadline: Self.soon)
        Self.add(22, to: &ledger, deadline: Self.late)
        Self.add(333, to: &ledger, deadline: Self.soon)
        Self.add(4, to: &ledger, deadline: Self.late)
        #expect(ledger.deadlineToWatch() == Self.soon)
        #expect(ledger.deadlineToWatch() == nil)
        #expect(ledger.expireUnsent(at: Self.soon) == [1, 333])
        #expect(!ledger.isOverdue(at: Self.late))
        #expect(ledger.takeBatch() == Self.bytes([22, 4]))
        #expect(ledger.isOverdue(at: Self.late))
        #expect(ledger.expireUnsent(at: Self.late).isEmpty)
        #expect(ledger.watchAfter(Self.soon) == Self.late)
        Self.add(5, to: &ledger, deadline: Self.soon)
        #expect(ledger.deadlineToWatch() == Self.soon)
        #expect(ledger.watchAfter(Self.late) == nil)
    }

    @Test
    func `a lost connection takes what was sent, and leaves what was not`() {
        var ledger = CommandLedger<Int>()
        Self.add(1, to: &ledger)
        _ = ledger.takeBatch()
        Self.add(2, to: &ledger)
        #expect(ledger.connectionLost() == [1])
        #expect(ledger.hasUnsent)
        #expect(ledger.takeBatch() == Self.bytes([2]))
        #expect(Self.numbers(ledger.answered(1)) == [[2]])
        #expect(ledger.awaited == 0 && !ledger.hasUnsent)
    }

    @Test
    func `a closed ledger takes no more`() {
        var ledger = CommandLedger<Int>()
        Self.add(1, to: &ledger)
        _ = ledger.takeBatch()
        Self.add(2, to: &ledger)
        #expect(ledger.close() == [1, 2])
        let isTaken = Self.add(4, to: &ledger)
        #expect(!isTaken)
        #expect(ledger.takeBatch() == nil)
    }

    @Test
    func `calls of one script are one command, and who called alone has one of its own`() throws {
        var ledger = CommandLedger<Int>()
        for number in 1...3 { try Self.addCall(number, to: &ledger) }
        let hash = LockScripts.release.hash
        let together = Self.commands(ledger.takeBatch())
        #expect(together.map { $0.prefix(3) } == [["EVALSHA", hash, "6"]])
        #expect(together.first?.dropFirst(3).prefix(4) == ["lock1", "hf:{lock1}:h", "lock2", "hf:{lock2}:h"])
        #expect(together.first?.count == 3 + 3 * 3)
        #expect(Self.numbers(ledger.answered(1)) == [[1, 2, 3]])
        try Self.addCall(4, to: &ledger)
        let alone = Self.commands(ledger.takeBatch())
        #expect(alone == [["EVALSHA", hash, "2", "lock4", "hf:{lock4}:h", RequestID(high: 1, low: 4).secret]])
        #expect(Self.numbers(ledger.answered(1)) == [[4]])
    }

    @Test
    func `a call does not overtake a command that came before, nor is it overtaken`() throws {
        var ledger = CommandLedger<Int>()
        try Self.addCall(1, to: &ledger)
        try Self.addCall(2, to: &ledger)
        Self.add(3, to: &ledger)
        try Self.addCall(4, to: &ledger)
        // What the server is not believed to know goes with its text.
        try Self.addCall(5, to: &ledger, isKnown: false)
        let commands = Self.commands(ledger.takeBatch())
        #expect(commands.map(\.first) == ["EVALSHA", "ECHO", "EVALSHA", "EVAL"])
        #expect(Self.numbers(ledger.answered(4)) == [[1, 2], [3], [4], [5]])
    }

    @Test
    func `calls that are one command leave with the first that ran out of time`() throws {
        var ledger = CommandLedger<Int>()
        try Self.addCall(1, to: &ledger, deadline: Self.late)
        try Self.addCall(2, to: &ledger, deadline: Self.soon)
        Self.add(3, to: &ledger, deadline: Self.late)
        #expect(ledger.expireUnsent(at: Self.soon) == [1, 2])
        #expect(ledger.takeBatch() == Self.bytes([3]))
    }

    @Test
    func `a command is for so many locks at most`() throws {
        var ledger = CommandLedger<Int>()
        for number in 0..<70 { try Self.addCall(number, to: &ledger) }
        #expect(Self.commands(ledger.takeBatch()).count == 3)
        #expect(Self.numbers(ledger.answered(3)) == [Array(0..<32), Array(32..<64), Array(64..<70)])
    }

    @Test
    func `over random steps each command leaves exactly once`() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            var ledger = CommandLedger<Int>()
            var next = 0
            var left: [Int] = []
            for _ in 0..<100 {
                switch Int.random(in: 0..<6, using: &generator) {
                case 0, 1:
                    let deadline = Bool.random(using: &generator) ? Self.soon : Self.late
                    if Bool.random(using: &generator) {
                        Self.add(next, to: &ledger, deadline: deadline)
                    } else {
                        try Self.addCall(next, to: &ledger, deadline: deadline)
                    }
                    next += 1
                case 2: _ = ledger.takeBatch()
                case 3: left += ledger.answered(min(2, ledger.awaited))?.flatMap(\.tickets) ?? []
                case 4: left += ledger.expireUnsent(at: Self.soon)
                default: if Bool.random(using: &generator) { left += ledger.connectionLost() }
                }
            }
            left += ledger.close()
            #expect(left.sorted() == Array(0..<next))
        }
    }
}
