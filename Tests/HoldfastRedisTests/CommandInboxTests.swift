// SPDX-License-Identifier: Apache-2.0

import HoldfastRedis
import NIOCore
import Testing

@Suite
struct CommandInboxTests {
    private static func arrivals(_ numbers: Int...) -> [CommandInbox<Int>.Arrival] {
        numbers.map { number in
            .init(number, by: .distantFuture, .command { $0.command(["ECHO", String(number)]) })
        }
    }

    @Test
    func `a batch is scheduled once, and again after it was taken`() {
        var inbox = CommandInbox<Int>(capacity: 100)
        #expect(inbox.put(Self.arrivals(1)) == .scheduleBatch)
        #expect(inbox.put(Self.arrivals(2)) == .queued)
        let taken = inbox.take().map(\.ticket)
        #expect(taken == [1, 2])
        #expect(!inbox.hasArrivals)
        #expect(inbox.put(Self.arrivals(3)) == .scheduleBatch)
        #expect(inbox.hasArrivals)
    }

    @Test
    func `a batch that is large enough says so`() {
        var inbox = CommandInbox<Int>(capacity: 100)
        #expect(inbox.put(Self.arrivals(1)) == .scheduleBatch)
        let others = (2...20).map { inbox.put(Self.arrivals($0)) }
        #expect(others.contains(.batchIsFull))
        _ = inbox.take()
        #expect(inbox.put(Self.arrivals(21)) == .scheduleBatch)
    }

    @Test
    func `what is unanswered counts wherever it is, and commands are taken all or none`() {
        var inbox = CommandInbox<Int>(capacity: 3)
        #expect(inbox.put(Self.arrivals(1, 2)) == .scheduleBatch)
        _ = inbox.take()
        #expect(inbox.put(Self.arrivals(3, 4)) == .full)
        #expect(inbox.put(Self.arrivals(3)) == .scheduleBatch)
        #expect(inbox.put(Self.arrivals(4)) == .full)
        inbox.settled(2)
        #expect(inbox.put(Self.arrivals(4, 5)) == .queued)
        let taken = inbox.take().map(\.ticket)
        #expect(taken == [3, 4, 5])
    }

    @Test
    func `a closed inbox gives back what nobody took, and takes no more`() {
        var inbox = CommandInbox<Int>(capacity: 3)
        _ = inbox.put(Self.arrivals(1, 2))
        #expect(inbox.close() == [1, 2])
        #expect(inbox.put(Self.arrivals(3)) == .closed)
        #expect(!inbox.hasArrivals)
    }
}
