// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Handing a lock over to who waits by the same store: the answer to the release is the message, and nobody has to accept.
///
/// Only where one server alone says who holds; where replicas or other masters have a say, they are asked first.
extension RedisLockStore {
    /// Gives a lock back.
    func letGo(_ grant: GrantKey) async throws(LockError) -> ReleaseReply {
        guard self.hasLine.load(ordering: .relaxed), self.line.withLock({ $0.isAwaited(grant.resource) }) else {
            return try await self.client.run(self.commands.release(grant, floor: self.floor))
        }
        let sentAt = ContinuousClock.now
        let outcome: LockCommands.HandOver
        do throws(LockError) {
            outcome = try await self.client.run(self.commands.handOver(grant, channel: self.channel))
        } catch {
            self.sendAll(of: grant.resource)
            throw error
        }
        for (id, token) in outcome.holders {
            self.line.withLock { $0.leave(GrantKey(id: id, resource: grant.resource)) }
            // What was sent twice says nothing about when.
            self.handlers.emit(outcome.isRepeat ? .granted(id) : .handedOver(id, token, since: sentAt))
        }
        if let (id, pause) = outcome.next { self.handlers.emit(.check(id, after: pause)) }
        // The first copy may have handed it over, with its answer lost.
        if outcome.isRepeat { self.sendAll(of: grant.resource) }
        return outcome.reply
    }

    /// Sends all who wait for a lock to ask again: one of them may have it, and does not know.
    private func sendAll(of resource: Resource) {
        for (place, id) in self.line.withLock({ $0.waiters(for: resource) }).enumerated() {
            self.handlers.emit(.check(id, after: min(Limits.checkSpread * place, Limits.maximumCheckSpread)))
        }
    }

    /// Takes note of whether a request waits.
    func note(_ reply: AcquireReply, to request: LockRequest) {
        guard self.handsOver, request.acceptsUnasked else { return }
        switch reply {
        case .waiting:
            self.hasLine.store(true, ordering: .relaxed)
            self.line.withLock { $0.enter(request.key) }
        case .granted, .busy, .finished: self.forgetInLine(request.key)
        }
    }

    /// Forgets that a request waits.
    func forgetInLine(_ request: GrantKey) {
        if self.hasLine.load(ordering: .relaxed) { self.line.withLock { $0.leave(request) } }
    }
}
