// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Calls on one link, awaited; each ends by a deadline.
struct Wire: Sendable {
    let link: Session.Link
    @Moment private(set) var deadline: ContinuousClock.Instant

    private var handle: Handle { self.link.handle }

    func terms(_ done: @escaping @Sendable (CallReply) -> Void) -> Handle.Terms {
        Handle.Terms(sentAt: .now, deadline: self.deadline, done: done)
    }

    func create(_ path: String, _ data: [UInt8], _ kind: Handle.Kind) async -> CallReply {
        await self.reply { self.handle.create(path, data, kind, $0) }
    }

    /// See ``Handle/currentChildren(of:_:)``.
    func currentChildren(of path: String) async -> CallReply {
        await self.reply { self.handle.currentChildren(of: path, $0) }
    }

    func children(of path: String) async -> CallReply { await self.reply { self.handle.children(of: path, $0) } }

    func get(_ path: String, watch: UInt? = nil) async -> CallReply {
        await self.reply { self.handle.get(path, watch: watch, $0) }
    }

    func set(_ path: String, _ data: [UInt8], version: Int32) async -> CallReply {
        await self.reply { self.handle.set(path, data, version: version, $0) }
    }

    func delete(_ path: String) async -> CallReply { await self.reply { self.handle.delete(path, $0) } }

    func replace(_ old: String, by path: String, _ data: [UInt8]) async -> CallReply {
        await self.reply { self.handle.replace(old, by: path, data, $0) }
    }

    func sync(_ path: String) async -> CallReply { await self.reply { self.handle.sync(path, $0) } }

    /// Creates a node and lists its parent's children.
    ///
    /// - Parameters:
    ///   - path: The node's path without its number.
    ///   - data: What it says.
    ///   - parent: The node to list.
    ///   - made: Called with the first answer, before any that comes after it.
    /// - Returns: Both answers; the second comes last.
    @concurrent
    func enqueue(
        _ path: String,
        _ data: [UInt8],
        listing parent: String,
        _ made: @escaping @Sendable (CallReply) -> Void
    ) async -> (CallReply, CallReply) {
        await withCheckedContinuation { continuation in
            let box = FirstReply()
            self.handle.create(
                path,
                data,
                listing: parent,
                self.terms { reply in
                    made(reply)
                    box.put(reply)
                },
                self.terms { continuation.resume(returning: (box.take(), $0)) }
            )
        }
    }

    /// Reads several nodes at once.
    ///
    /// - Parameters:
    ///   - paths: The nodes.
    ///   - watches: The numbers of watches, by place.
    /// - Returns: An answer for each.
    func get(_ paths: [String], watches: [Int: UInt] = [:]) async -> [CallReply] {
        await self.gather(paths.count) { index, terms in self.handle.get(paths[index], watch: watches[index], terms) }
    }

    /// Lists the children of several nodes at once.
    func children(of paths: [String]) async -> [CallReply] {
        await self.gather(paths.count) { index, terms in self.handle.children(of: paths[index], terms) }
    }

    /// Deletes several nodes at once.
    func delete(_ paths: [String]) async -> [CallReply] {
        await self.gather(paths.count) { index, terms in self.handle.delete(paths[index], terms) }
    }

    /// How many calls of one gathering are under way at once: enough to keep a server busy, too few to fill it.
    private static let width = 256

    /// Sends several calls and waits for all.
    @concurrent
    private func gather(_ count: Int, _ send: @Sendable (Int, Handle.Terms) -> Void) async -> [CallReply] {
        var replies: [CallReply] = []
        replies.reserveCapacity(count)
        while replies.count < count {
            let range = replies.count..<min(count, replies.count + Self.width)
            replies += await withCheckedContinuation { (continuation: CheckedContinuation<[CallReply], Never>) in
                let gathering = Gathering(range.count) { continuation.resume(returning: $0) }
                for index in range {
                    send(index, self.terms { gathering.put($0, at: index - range.lowerBound) })
                }
            }
        }
        return replies
    }

    /// `@concurrent`, so that the continuation never belongs to a caller's actor.
    @concurrent
    private func reply(_ send: @Sendable (Handle.Terms) -> Void) async -> CallReply {
        await withCheckedContinuation { continuation in send(self.terms { continuation.resume(returning: $0) }) }
    }

}

/// Collects the answers to several calls.
final class Gathering: Sendable {
    private let state: Mutex<(replies: [CallReply?], missing: Int)>
    private let done: @Sendable ([CallReply]) -> Void

    /// Makes a collection.
    ///
    /// - Parameters:
    ///   - count: How many answers will come; with none it is complete at once.
    ///   - done: Called with all of them.
    init(_ count: Int, _ done: @escaping @Sendable ([CallReply]) -> Void) {
        self.state = Mutex((Array(repeating: nil, count: count), count))
        self.done = done
        if count == 0 { done([]) }
    }

    /// Takes an answer.
    func put(_ reply: CallReply, at index: Int) {
        let all = self.state.withLock { state -> [CallReply]? in
            state.replies[index] = reply
            state.missing -= 1
            return state.missing == 0 ? state.replies.compactMap(\.self) : nil
        }
        if let all { self.done(all) }
    }
}
