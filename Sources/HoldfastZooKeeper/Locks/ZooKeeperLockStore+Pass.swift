// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Handing over within this store: whoever waits for one of its own requests moves up without reading the queue.
///
/// That its own node is still there has to be known, or somebody who deleted it would let in another beside it. So a
/// watch on it is asked for when it begins to wait, or at the latest right behind the delete of the node that makes room;
/// a server tells of a node's end before it answers anything later, so a node whose watch is set and silent is there.
extension ZooKeeperLockStore {
    /// Asks for a watch on the node of a request that may soon be granted.
    func prove(_ id: RequestID) {
        guard let entry = self.book.withLock({ $0[id] }), let path = entry.path, entry.ownWatch == nil,
            let wire = self.wire(ofEpoch: entry.epoch)
        else { return }
        let watch = wire.link.handle.addWatch(on: path) { [weak self] isDeleted in
            self?.touched(id, path, isDeleted)
        }
        // One that no server keeps proves nothing.
        guard !CallbackTable.shared.isPolled(watch),
            self.book.withLock({ $0.see(id, guid: entry.guid, with: watch) })
        else { return self.drop(watches: [watch]) }
        let terms = wire.terms { [weak self] reply in self?.proved(entry, watch, reply) }
        wire.link.handle.get(path, watch: watch, terms)
    }

    private func proved(_ entry: RequestBook.Entry, _ watch: UInt, _ reply: CallReply) {
        let id = entry.request.id
        // A wish that is in it already is for the grant to read.
        let isSet = reply.code == .ok && !NodeData.asksToLetGo(reply.data)
        let passing = self.book.withLock { $0.seen(id, guid: entry.guid, with: watch, isSet: isSet) }
        if !isSet { self.forget(watch: watch, id, entry.guid) }
        if reply.code == .noNode, let path = entry.path { return self.touched(id, path, true) }
        if let passing { self.pass(id, passing) }
    }

    /// Tells those who waited for a request of this store that its node is gone.
    func passed(_ entry: RequestBook.Entry, to dependents: some Sequence<RequestID>) {
        let passing = RequestBook.Passing(entry)
        for id in dependents { self.pass(id, passing) }
    }

    private func pass(_ id: RequestID, _ passing: RequestBook.Passing) {
        switch self.book.withLock({ $0.advance(id, behind: passing) }) {
        case .granted:
            self.forgetRegistration(of: id)
            self.handlers.emit(.granted(id))
            self.guardHold(id)
        case .waiting: break
        case .unclear: self.wake(id)
        }
    }
}
