// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Deletes nodes that nobody needs any more, and goes on until they are gone.
///
/// A node that stays would block everybody, its own session included. A delete whose answer is lost is sent again when
/// the connection is back; a node that may have been created is looked for by its GUID. With the session, its nodes
/// end anyhow.
final class Remover: Sendable {
    private enum Item: Hashable {
        case node(String, epoch: Int)
        case search(String, guid: String, epoch: Int)

        var epoch: Int {
            switch self {
            case .node(_, let epoch), .search(_, _, let epoch): epoch
            }
        }
    }

    /// Told whether a node is gone.
    private typealias Done = @Sendable (_ isGone: Bool) -> Void

    private struct State {
        /// To be sent.
        var left: Set<Item> = []
        /// Sent and not answered, with who wants to know when the node is gone.
        var inFlight: [Item: Done?] = [:]
        /// Who wants to know that of what is to be sent.
        var waiting: [Item: Done] = [:]
        /// Nodes that may not be deleted, by their parents.
        var denied: [String: Denial] = [:]
        /// Parents of which that was said.
        var reported: Set<String> = []
    }

    /// Nodes below one parent that may not be deleted.
    private struct Denial {
        var items: Set<Item> = []
        /// When one of them is tried again.
        var next: ContinuousClock.Instant
    }

    /// How soon it is looked whether what was not permitted is.
    private static let deniedPause: Duration = .seconds(5)
    /// Of how many parents it is remembered that something was said.
    private static let maximumReported = 1024

    private let state = Mutex(State())
    private let hasDenied = Atomic<Bool>(false)
    private let timeout: Duration
    private let layout: ZooKeeperConfiguration.Layout

    init(timeout: Duration, layout: ZooKeeperConfiguration.Layout) {
        self.timeout = timeout
        self.layout = layout
    }

    /// Deletes a node in the background.
    ///
    /// - Parameters:
    ///   - path: The node.
    ///   - epoch: Its session; with that it ends anyhow.
    ///   - link: The connection, if there is one.
    ///   - done: Called when it is gone, or when it cannot be deleted; told which. Not called when its session ends.
    func remove(
        _ path: String,
        _ epoch: Int,
        _ link: Session.Link?,
        _ done: (@Sendable (_ isGone: Bool) -> Void)? = nil
    ) {
        let item = Item.node(path, epoch: epoch)
        self.begin(item, link, done)
    }

    /// Deletes the node of an attempt, if there is one.
    func search(_ parent: String, guid: String, _ epoch: Int, _ link: Session.Link?) {
        self.begin(.search(parent, guid: guid, epoch: epoch), link)
    }

    /// Forgets what ended with its session.
    func forget(epoch: Int) {
        self.state.withLock { state in
            state.left = state.left.filter { $0.epoch != epoch }
            state.waiting = state.waiting.filter { $0.key.epoch != epoch }
            for item in state.inFlight.keys where item.epoch == epoch { state.inFlight[item] = .some(nil) }
            for parent in state.denied.keys { self.permit(parent, &state) { $0.epoch != epoch } }
        }
    }

    /// The parent of a node if this store has nodes below it that it may not delete.
    func denied(below parent: String) -> String? {
        // Nearly never.
        guard self.hasDenied.load(ordering: .relaxed) else { return nil }
        return self.state.withLock { $0.denied[parent] == nil ? nil : parent }
    }

    /// Where this store may not delete what it has made.
    var denied: [String] { self.state.withLock { $0.denied.keys.sorted() } }

    /// Forgets which nodes below a parent may not be deleted, but for some.
    private func permit(_ parent: String, _ state: inout State, but isLeft: (Item) -> Bool) {
        guard var denial = state.denied[parent] else { return }
        denial.items = denial.items.filter(isLeft)
        state.denied[parent] = denial.items.isEmpty ? nil : denial
        self.hasDenied.store(!state.denied.isEmpty, ordering: .relaxed)
    }

    /// Notes that a node could be deleted; if that was not permitted before, the others are tried too.
    private func allow(_ item: Item, _ state: inout State) {
        guard !state.denied.isEmpty, case .node(let path, _) = item, let slash = path.lastIndex(of: "/"),
            let denial = state.denied.removeValue(forKey: String(path[..<slash]))
        else { return }
        state.left.formUnion(denial.items.subtracting([item]))
        self.hasDenied.store(!state.denied.isEmpty, ordering: .relaxed)
    }

    /// Notes that a node may not be deleted.
    ///
    /// - Returns: Its parent, if nothing was said of that yet.
    private func deny(_ item: Item, _ state: inout State) -> String? {
        guard case .node(let path, _) = item, let slash = path.lastIndex(of: "/") else { return nil }
        let parent = String(path[..<slash])
        let next = ContinuousClock.now.advanced(by: Self.deniedPause)
        state.denied[parent, default: Denial(next: next)].items.insert(item)
        self.hasDenied.store(true, ordering: .relaxed)
        if state.reported.count >= Self.maximumReported { state.reported = [] }
        return state.reported.insert(parent).inserted ? parent : nil
    }

    /// Goes on without its store, until nothing is left or the session ends.
    func finish(on session: Session) {
        guard !self.isDone else { return }
        // The session keeps the listener, and the listener this object.
        session.listen { [weak session] event in
            switch event {
            case .connected(let link): self.retry(link)
            case .ended(let epoch): self.forget(epoch: epoch)
            case .tick: if let link = session?.link { self.retry(link) }
            case .doubted, .refused: break
            }
            return !self.isDone
        }
    }

    /// Whether everything is gone.
    private var isDone: Bool { self.state.withLock { $0.left.isEmpty && $0.inFlight.isEmpty } }

    /// Sends what is left.
    func retry(_ link: Session.Link) {
        let items = self.state.withLock { state -> Set<Item> in
            guard !state.left.isEmpty || !state.denied.isEmpty else { return [] }
            var items = state.left.filter { $0.epoch == link.epoch }
            // What belongs to an older session ended with it.
            state.left = state.left.filter { $0.epoch > link.epoch }
            state.waiting = state.waiting.filter { $0.key.epoch >= link.epoch }
            let now = ContinuousClock.now
            for (parent, denial) in state.denied where denial.next <= now {
                state.denied[parent]?.next = now.advanced(by: Self.deniedPause)
                // One tells whether the others may be.
                if let item = denial.items.first(where: { $0.epoch == link.epoch }) { items.insert(item) }
            }
            return items
        }
        for item in items { self.begin(item, link) }
    }

    /// Waits until nothing is left.
    @concurrent
    func drain(by limit: ContinuousClock.Instant) async {
        while !self.isDone, ContinuousClock.now < limit {
            // Uncancelled: the end of a service is where this is needed.
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                Pause.shared.after(.milliseconds(2)) { continuation.resume() }
            }
        }
    }

    private func begin(_ item: Item, _ link: Session.Link?, _ done: Done? = nil) {
        let isNew = self.state.withLock { state -> Bool in
            guard let link, link.epoch == item.epoch else {
                state.left.insert(item)
                if let done { state.waiting[item] = done }
                return false
            }
            let waiting = done ?? (state.waiting.isEmpty ? nil : state.waiting.removeValue(forKey: item))
            guard let before = state.inFlight.updateValue(waiting, forKey: item) else { return true }
            if waiting == nil { state.inFlight[item] = before }
            // One that is being searched for may have been made after the search.
            if case .search = item { state.left.insert(item) }
            return false
        }
        guard isNew, let link else { return }
        let deadline = ContinuousClock.now.advanced(by: self.timeout)
        switch item {
        case .node(let path, _):
            let terms = Handle.Terms(sentAt: .now, deadline: deadline) { [weak self] in self?.end(item, $0.code) }
            link.handle.delete(path, terms)
        case .search(let parent, let guid, let epoch):
            let terms = Handle.Terms(sentAt: .now, deadline: deadline) { [weak self] reply in
                guard let self else { return }
                if reply.code == .ok {
                    for name in QueueView(reply.children, self.layout).contenders where name.guid == guid {
                        self.remove("\(parent)/\(name.text)", epoch, link)
                    }
                }
                self.end(item, reply.code)
            }
            // What was proposed and is not committed yet would be missed, and come later.
            link.handle.currentChildren(of: parent, terms)
        }
    }

    private func end(_ item: Item, _ code: ServerCode) {
        let isGone = code == .ok || code == .noNode
        let (done, parent) = self.state.withLock { state -> (Done?, String?) in
            let done = state.inFlight.removeValue(forKey: item) ?? nil
            switch code {
            case .ok, .noNode:
                self.allow(item, &state)
                return (done, nil)
            case .noPermission: return (done, self.deny(item, &state))
            case .sessionExpired, .invalidState, .closing: break
            default:
                state.left.insert(item)
                if let done { state.waiting[item] = done }
            }
            return (nil, nil)
        }
        if let parent {
            ClientLog.shared.say(
                .error,
                "nodes below \(parent) may be made and not deleted: locks there stay until the session ends, and no more "
                    + "are taken; permit this user to delete"
            )
        }
        done?(isGone)
    }
}
