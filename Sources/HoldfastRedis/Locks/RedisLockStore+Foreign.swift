// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Waiting for locks that others hold, who tell nobody when they let go: the server tells when their key changes.
///
/// Client tracking of Redis 6, with the messages redirected to the connection that listens (RESP2), and only for the keys
/// that somebody waits for (`OPTIN`). The idea of using it for locks is rueidislock's.
extension RedisLockStore {
    /// Has the server tell when a foreign holder's key changes, for who is first in line for it.
    ///
    /// One round trip more, for such requests only. Where the server has no tracking, or the user may not use it, the
    /// request asks ten times a second, as the reply says.
    func watchingForeign(_ reply: AcquireReply, to request: LockRequest, on master: RedisMaster) async -> AcquireReply {
        guard case .waiting(var place) = reply, place.position == 0, let holder = place.blockers.first,
            holder.reference == nil, holder.mode == .exclusive, let listener = master.subscription.tracker
        else { return reply }
        let key = self.configuration.prefix + request.resource.name
        self.foreign.withLock { _ = $0[key, default: []].insert(request.id) }
        switch await master.track(key, for: listener, by: self.client.deadline) {
        case .none:
            master.subscription.giveUpTracking()
            self.forgetForeign(request.key)
            return reply
        // It is gone already.
        case .some(false): place.checkAfter = .zero
        case .some(true): place.checkAfter = (holder.remaining ?? Self.endlessCheck) + Limits.checkSpread
        }
        return .waiting(place)
    }

    /// How often to look at a key that never expires by itself, besides being told.
    private static let endlessCheck: Duration = .seconds(60)

    /// Sends those who wait for keys to ask again.
    ///
    /// - Parameter keys: The keys that changed; `nil` for all.
    func changed(_ keys: [String]?) {
        let ids = self.foreign.withLock { foreign -> [RequestID] in
            guard let keys else {
                defer { foreign = [:] }
                return foreign.values.flatMap(\.self)
            }
            return keys.flatMap { foreign.removeValue(forKey: $0) ?? [] }
        }
        for id in ids { self.handlers.emit(.check(id, after: .zero)) }
    }

    /// Forgets that a request waits for a foreign holder.
    func forgetForeign(_ request: GrantKey) {
        self.foreign.withLock { foreign in
            guard !foreign.isEmpty else { return }
            let key = self.configuration.prefix + request.resource.name
            foreign[key]?.remove(request.id)
            if foreign[key]?.isEmpty == true { foreign[key] = nil }
        }
    }
}
