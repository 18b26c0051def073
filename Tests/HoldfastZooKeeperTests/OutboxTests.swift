// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// Sending changes together.
@Suite("Changes that go to ZooKeeper together", .timeLimit(.minutes(5)))
struct OutboxTests {
    private static func delete(_ number: UInt) -> Outbox.Change {
        Outbox.Change(number: number, path: "/locks/\(number)/node", kind: .delete)
    }

    private static func create(_ number: UInt, below parent: String, bytes: Int = 10) -> Outbox.Change {
        let data = [UInt8](repeating: 1, count: bytes)
        return Outbox.Change(
            number: number,
            path: "\(parent)/node-",
            kind: .create(data: data, parent: parent, list: number + 1000)
        )
    }

    /// What is sent, as the numbers of the changes.
    private static func next(_ outbox: inout Outbox, isUrgent: Bool = false) -> [UInt]? {
        switch outbox.next(isUrgent: isUrgent) {
        case .alone(let change): [change.number]
        case .together(let changes): changes.map(\.number)
        case nil: nil
        }
    }

    /// An outbox with as many unanswered requests as may be.
    private static func busy(knowing parents: [String] = []) -> Outbox {
        var outbox = Outbox()
        for number in 0..<UInt(Outbox.width) {
            outbox.add(self.delete(900 + number))
            _ = outbox.next(isUrgent: false)
        }
        for parent in parents {
            outbox.add(self.delete(999))
            _ = outbox.next(isUrgent: true)
            outbox.answered(parent)
        }
        return outbox
    }

    @Test
    func `a change goes at once and alone while there is little to do`() {
        var outbox = Outbox()
        for number in 0..<UInt(Outbox.width) {
            outbox.add(Self.delete(number))
            let sent = Self.next(&outbox)
            #expect(sent == [number])
        }
        outbox.add(Self.delete(50))
        let held = Self.next(&outbox)
        #expect(held == nil)
    }

    @Test
    func `a change passes at once only while there is little to do and nothing before it`() {
        var outbox = Outbox()
        for _ in 0..<Outbox.width {
            let passes = outbox.passes()
            #expect(passes)
        }
        let isFull = !outbox.passes()
        #expect(isFull)
        outbox.add(Self.delete(1))
        outbox.answered()
        outbox.answered()
        // Whoever was before it has to be sent first.
        let overtakes = outbox.passes()
        #expect(!overtakes)
        let sent = Self.next(&outbox)
        #expect(sent == [1])
        let passes = outbox.passes()
        #expect(passes)
        let isFullAgain = !outbox.passes()
        #expect(isFullAgain)
    }

    @Test
    func `what the library has completed is told after its caller, and what was answered otherwise is not`() throws {
        let told = Cell<[String]>([])
        let handle = Handle(usesCreatorACL: false) { event in
            if case .answered = event { told.value.append("session") }
        }
        defer { handle.close() }
        let table = CallbackTable.shared
        func enter() throws -> UInt {
            let call = CallbackTable.Call(
                handle: handle.number,
                sentAt: .now,
                reachesLeader: true,
                deadline: .now,
                done: { told.value.append("caller \($0.code.rawValue)") },
                after: { told.value.append("handle \($0.code.rawValue)") }
            )
            return try #require(table.add(call))
        }
        table.complete(try enter(), CallReply(code: .ok))
        #expect(told.value == ["session", "caller 0", "handle 0"])
        told.value = []
        table.complete(try enter(), CallReply(code: .ok), isAnswer: false)
        table.fail(try enter(), .notConnected)
        #expect(told.value == ["caller 0", "caller -1002"])
        told.value = []
        let late = try enter()
        table.endLate(on: handle.number, at: .now)
        #expect(told.value == ["caller -1001"])
        // Nobody waits, but it was sent, and counts as unanswered until now.
        table.complete(late, CallReply(code: .noNode))
        #expect(told.value == ["caller -1001", "session", "handle -101"])
        #expect(table.pending(on: handle.number) == 0)
    }

    @Test
    func `what gathered while all were busy goes together, in its order, when one is answered`() {
        var outbox = Self.busy()
        for number in 0..<10 as Range<UInt> { outbox.add(Self.delete(number)) }
        outbox.answered()
        let sent = Self.next(&outbox)
        #expect(sent == Array(0..<10))
        let more = Self.next(&outbox)
        #expect(more == nil)
    }

    @Test
    func `what has to come before a call is sent before it, however busy the servers are`() {
        var outbox = Self.busy()
        outbox.add(Self.delete(1))
        outbox.add(Self.delete(2))
        let sent = Self.next(&outbox, isUrgent: true)
        #expect(sent == [1, 2])
    }

    @Test
    func `two nodes of one lock are never made by one transaction, whose number is their token`() {
        var outbox = Self.busy(knowing: ["/a", "/b", "/c"])
        for (number, parent) in ["/a", "/b", "/c", "/a", "/b"].enumerated() {
            outbox.add(Self.create(UInt(number), below: parent))
        }
        outbox.add(Self.create(5, below: "/c"))
        let first = Self.next(&outbox, isUrgent: true)
        let second = Self.next(&outbox, isUrgent: true)
        #expect(first == [0, 1, 2])
        #expect(second == [3, 4, 5])
    }

    @Test
    func `a node whose parent may be missing fails nothing but itself`() {
        var outbox = Self.busy(knowing: ["/a", "/b", "/c", "/d"])
        for (number, parent) in ["/a", "/b", "/c", "/new", "/d"].enumerated() {
            outbox.add(Self.create(UInt(number), below: parent))
        }
        let first = Self.next(&outbox, isUrgent: true)
        let second = Self.next(&outbox, isUrgent: true)
        let third = Self.next(&outbox, isUrgent: true)
        #expect(first == [0, 1, 2])
        #expect(second == [3])
        #expect(third == [4])
    }

    @Test
    func `who gives a lock back and wants it again is not held up by a node that cannot be made`() {
        var outbox = Self.busy(knowing: ["/a", "/b", "/c"])
        for number in [1, 2, 3] as [UInt] {
            outbox.add(Self.create(number, below: ["/a", "/b", "/c"][Int(number) - 1]))
            outbox.add(Self.delete(number + 10))
        }
        outbox.answered()
        let first = Self.next(&outbox)
        let second = Self.next(&outbox)
        #expect(first == [11, 12, 13])
        #expect(second == [1, 2, 3], "and what follows does not wait for an answer")
    }

    @Test
    func `a transaction that was refused is not tried again with the same parents`() {
        var outbox = Self.busy(knowing: ["/a", "/b", "/c"])
        let changes = ["/a", "/b", "/c"].enumerated().map { Self.create(UInt($0.offset), below: $0.element) }
        for change in changes { outbox.add(change) }
        _ = outbox.next(isUrgent: true)
        outbox.split(changes)
        for change in changes {
            outbox.answered(change.parent == "/a" ? nil : change.parent)
            outbox.add(change)
        }
        let first = Self.next(&outbox, isUrgent: true)
        #expect(first == [0])
    }

    @Test
    func `a transaction stays far below what servers take`() {
        let parents = (0..<100).map { "/p\($0)" }
        var outbox = Self.busy(knowing: parents)
        for (number, parent) in parents.enumerated() {
            outbox.add(Self.create(UInt(number), below: parent, bytes: 80_000))
        }
        let first = Self.next(&outbox, isUrgent: true)
        #expect(first == [0, 1, 2])
        var small = Self.busy()
        for number in 0..<1000 as Range<UInt> { small.add(Self.delete(number)) }
        let most = Self.next(&small, isUrgent: true)
        #expect(most?.count == Outbox.maximumTogether)
    }

    @Test
    func `sixty-four workers on locks of their own get rising tokens, and leave nothing behind`() async throws {
        let server = try await ZooKeeperServer()
        try await Fixture.withService(server.hosts) { locks in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<64 {
                    group.addTask {
                        var last = FencingToken.zero
                        for turn in 0..<30 {
                            let resource = try Resource("own/\(worker % 48)")
                            let token = try await locks.withLock(resource) { $0.fencingToken }
                            #expect(token > last, "worker \(worker), turn \(turn)")
                            last = token
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        let store = try Fixture.store(server.hosts)
        for worker in 0..<48 {
            #expect(try await store.status(of: Resource("own/\(worker)")).isFree, "worker \(worker)")
        }
    }

    @Test
    func `a parent that is removed between two turns holds nobody up for long`() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        let wire = try await store.wire()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<32 {
                group.addTask {
                    for _ in 0..<20 {
                        let request = Fixture.request(try Resource("gone/\(worker)"))
                        guard case .granted = try await store.acquire(request) else {
                            Issue.record("worker \(worker): not granted")
                            return
                        }
                        #expect(try await store.release(request.key) == .released)
                        // As a server does with containers that are empty; not there, or in use again, is well too.
                        if worker % 4 == 0 { _ = await wire.delete("/locks/gone/\(worker)") }
                    }
                }
            }
            try await group.waitForAll()
        }
        try await Fixture.eventually("a node is left") {
            var left = 0
            for worker in 0..<32 { left += await wire.children(of: "/locks/gone/\(worker)").children.count }
            return left == 0
        }
    }
}
