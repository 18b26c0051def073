// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastZooKeeper

/// How requests of one store move up behind each other without reading the queue.
@Suite("Handing over within one store of ZooKeeper", .timeLimit(.minutes(5)))
struct PassingTests {
    /// A book with a queue of modes, `s` and `x`, all of one store; each has a node, and a watch on it.
    private struct Queue {
        var book = RequestBook()
        var entries: [RequestBook.Entry] = []

        init(_ line: String) {
            for (number, word) in line.split(separator: " ").enumerated() {
                let request = Fixture.request("q", mode: word == "s" ? .shared : .exclusive)
                let guid = LockName.guid(.curator, for: request.id, random: 1, UInt64(number))
                var entry = RequestBook.Entry(
                    request: request,
                    parent: "/locks/q",
                    guid: guid,
                    epoch: 0,
                    since: .now,
                    waitEnd: nil
                )
                let name = LockName.replacement(.curator, guid: guid, request.mode, .queued, sequence: Int32(number))
                entry.phase = .queued
                entry.node = RequestBook.Node(name: name, created: Int64(10 + number))
                entry.ownWatch = UInt(1000 + number)
                entry.isSeen = true
                self.entries.append(entry)
                self.book.enter(entry)
            }
        }

        /// Has a request wait for the last of those before it, all of which have to go.
        mutating func wait(_ index: Int, behind places: [Int], isComplete: Bool = true, given: Int64 = 0) {
            let entry = self.entries[index]
            _ = self.book.update(entry.request.id, guid: entry.guid) { entry in
                entry.ahead = RequestBook.Ahead(
                    own: places.map { .init(id: self.entries[$0].request.id, guid: self.entries[$0].guid) },
                    isComplete: isComplete,
                    given: given
                )
            }
            let isThere = self.book.wait(entry.request.id, guid: entry.guid, for: self.entries[places.last ?? 0])
            #expect(isThere)
        }

        /// Ends a request, and says what that means for another.
        mutating func end(_ index: Int, for other: Int) -> RequestBook.Progress? {
            guard let gone = self.book.remove(self.entries[index].request.id) else { return nil }
            _ = self.book.leave(gone)
            guard self.book.left(gone, isGone: true).contains(self.entries[other].request.id) else { return nil }
            return self.book.advance(self.entries[other].request.id, behind: RequestBook.Passing(gone))
        }

        func hold(_ index: Int) -> RequestBook.Hold? { self.book[self.entries[index].request.id]?.hold }
    }

    /// Whether a request that was taken out is known, which it is while its node is being deleted.
    private static func isLeaving(_ book: RequestBook, _ entry: RequestBook.Entry) -> Bool {
        entry.node.map { book.entry(of: $0.name) != nil } ?? false
    }

    private static func end(_ index: Int, for other: Int, in queue: inout Queue) -> RequestBook.Progress? {
        queue.end(index, for: other)
    }

    @Test
    func `a writer moves up as readers of its store end, in any order`() {
        var queue = Queue("s s s x")
        queue.wait(3, behind: [0, 1, 2])
        #expect(Self.end(1, for: 3, in: &queue) == nil, "it waits for the last")
        #expect(Self.end(2, for: 3, in: &queue) == .waiting)
        #expect(queue.hold(3) == nil)
        #expect(Self.end(0, for: 3, in: &queue) == .granted)
        #expect(queue.hold(3)?.token == FencingToken(rawValue: 13))
        #expect(queue.hold(3)?.watch == 1003)
    }

    @Test
    func `a writer before which strangers stand reads the queue when its own are gone`() {
        var queue = Queue("s s x")
        queue.wait(2, behind: [0, 1], isComplete: false)
        #expect(Self.end(1, for: 2, in: &queue) == .waiting)
        #expect(Self.end(0, for: 2, in: &queue) == .unclear)
    }

    @Test
    func `nobody moves up by a token below one that was given, also for another lock`() {
        for (given, taken) in [(Int64(11), Int64(0)), (0, 11)] {
            var queue = Queue("s x")
            queue.wait(1, behind: [0], given: given)
            queue.book.noteTaken(taken)
            #expect(Self.end(0, for: 1, in: &queue) == .unclear)
        }
    }

    @Test
    func `nobody moves up whose own node is not known to be there`() {
        var queue = Queue("s x")
        let (id, guid) = (queue.entries[1].request.id, queue.entries[1].guid)
        queue.wait(1, behind: [0])
        _ = queue.book.update(id, guid: guid) { $0.isSeen = false }
        #expect(Self.end(0, for: 1, in: &queue) == .waiting)
        #expect(queue.hold(1) == nil)
        let passing = queue.book.seen(id, guid: guid, with: 1001, isSet: true)
        let progress = passing.map { queue.book.advance(id, behind: $0) }
        #expect(progress == .granted)

        var other = Queue("s x")
        other.wait(1, behind: [0])
        _ = other.book.update(other.entries[1].request.id, guid: other.entries[1].guid) { $0.ownWatch = nil }
        #expect(Self.end(0, for: 1, in: &other) == .unclear)
    }

    @Test
    func `a request before it that changed its mode is looked at`() {
        var queue = Queue("x s x")
        queue.wait(2, behind: [0, 1])
        let first = queue.entries[0]
        _ = queue.book.update(first.request.id, guid: first.guid) { entry in
            entry.hold(FencingToken(rawValue: 10), isAccepted: true)
            entry.hold?.mode = .shared
        }
        #expect(Self.end(1, for: 2, in: &queue) == .unclear)
    }

    @Test
    func `who waits for a node that is being deleted is told when it is gone`() {
        var queue = Queue("x s")
        guard let gone = queue.book.remove(queue.entries[0].request.id) else { return }
        let early = queue.book.leave(gone)
        #expect(early.isEmpty)
        queue.wait(1, behind: [0])
        #expect(Self.isLeaving(queue.book, gone))
        let late = queue.book.left(gone, isGone: true)
        #expect(late == [queue.entries[1].request.id])
        #expect(queue.book.isGone(gone.node?.name.text ?? ""))
    }

    @Test
    func `waits that are given up leave nothing behind while the holder goes on`() {
        var queue = Queue("x")
        for _ in 0..<500 {
            let more = Queue("x").entries[0]
            queue.book.enter(more)
            let isThere = queue.book.wait(more.request.id, guid: more.guid, for: queue.entries[0])
            #expect(isThere)
            _ = queue.book.remove(more.request.id)
        }
        let left = queue.book.leave(queue.entries[0])
        #expect(left.isEmpty)
    }

    @Test
    func `what ended with its session is not kept as being deleted`() {
        var queue = Queue("x x")
        _ = queue.book.leave(queue.entries[0])
        _ = queue.book.removeAll(ofEpoch: 0)
        #expect(!Self.isLeaving(queue.book, queue.entries[0]))
        _ = queue.book.leave(queue.entries[1])
        #expect(!Self.isLeaving(queue.book, queue.entries[1]))
    }

    @Test(
        "Only plain readers and writers, few enough, let others move up behind them",
        arguments: [
            ("s s x", [0, 1]), ("x s x s", [0, 2]), ("x x", [0]), ("s u x", nil), ("s= x", nil), ("x u", nil),
            ("s", []),
        ] as [(String, [Int]?)]
    )
    func ahead(_ line: String, _ expected: [Int]?) {
        let names = line.split(separator: " ").enumerated().map { number, word -> String in
            let mode: LockMode = word.hasPrefix("s") ? .shared : word == "u" ? .update : .exclusive
            let guid = "0000000\(number)-0000-0000-0000-000000000000"
            let standing: LockName.Standing = word.hasSuffix("=") ? .held : .queued
            return LockName.replacement(.curator, guid: guid, mode, standing, sequence: Int32(number)).text
        }
        #expect(QueueView(names, .curator).ahead(of: names.count - 1) == expected)
    }

    @Test
    func `a waiter whose node somebody deleted is not handed the lock beside another`() async throws {
        let server = try await ZooKeeperServer()
        let (store, other) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        for round in 0..<10 {
            let (held, next, strange) = (Fixture.request("h"), Fixture.request("h"), Fixture.request("h"))
            guard case .granted = try await store.acquire(held), case .waiting = try await store.acquire(next),
                case .waiting = try await other.acquire(strange)
            else {
                Issue.record("round \(round): not as wanted")
                return
            }
            let signals = Signals(of: store)
            let node = try #require(store.book.withLock { $0[next.id]?.path })
            let deleted = await (try other.wire()).delete(node)
            #expect(deleted.code == .ok)
            #expect(try await store.release(held.key) == .released)
            try await Fixture.eventually("round \(round): no news") { !signals.all.isEmpty }
            #expect(signals.all.first == .lost(next.id, .forced), "round \(round)")
            try await Fixture.eventually("round \(round): the next does not get it") {
                if case .granted = try await other.acquire(strange) { true } else { false }
            }
            _ = try await other.release(strange.key)
        }
    }

    @Test
    func `readers and writers of two stores take turns, and what they do alone nobody else does`() async throws {
        let server = try await ZooKeeperServer()
        try await Fixture.withService(server.hosts) { here in
            try await Fixture.withService(server.hosts) { there in
                let room = Room()
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for worker in 0..<12 {
                        let locks = worker % 3 == 0 ? there : here
                        group.addTask {
                            for turn in 0..<25 {
                                let writes = (worker + turn) % 4 == 0
                                try await locks.withLock("mixed", mode: writes ? .exclusive : .shared) { _ in
                                    await room.enter(alone: writes)
                                    await Task.yield()
                                    await room.leave(alone: writes)
                                }
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(await room.overlaps == 0)
                #expect(await room.turns == 300)
            }
        }
    }

    /// Notices who is in it together.
    private actor Room {
        private var readers = 0
        private var writers = 0
        private(set) var overlaps = 0
        private(set) var turns = 0

        func enter(alone: Bool) {
            if alone { self.writers += 1 } else { self.readers += 1 }
            if self.writers > 1 || (self.writers == 1 && self.readers > 0) { self.overlaps += 1 }
            self.turns += 1
        }

        func leave(alone: Bool) { if alone { self.writers -= 1 } else { self.readers -= 1 } }
    }
}
