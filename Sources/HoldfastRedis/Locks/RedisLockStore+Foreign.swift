// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore
import Synchronization

/// Waiting for locks that others hold, who tell nobody when they let go: the server tells when their key changes.
///
/// Client tracking of Redis 6, with the messages redirected to the connection that listens (RESP2), and only for the keys
/// that somebody waits for (`OPTIN`). The idea of using it for locks is rueidislock's.
///
/// Everybody in line is told, not only the first, who may be gone by then without a word: whoever looks first hands the
/// lock to the first who is alive. The server forgets all of it with the connection that asked; then all ask again.
extension RedisLockStore {
    /// Has the server tell when a foreign holder's key changes.
    ///
    /// One round trip more, for the first such request of a store for each key. Where the server has no tracking, or the
    /// user may not use it, the first in line asks ten times a second, as the reply says.
    func watchingForeign(_ reply: AcquireReply, to request: LockRequest, on master: RedisMaster) async -> AcquireReply {
        guard case .waiting(var place) = reply, let holder = ForeignLine.holder(in: place),
            let listener = master.subscription.tracker
        else { return reply }
        let key = self.configuration.prefix + request.resource.name
        if !self.foreign.withLock({ $0.enter(request.id, at: place.position, for: key) }) {
            let commands = KeyTracking.commands(key, for: listener)
            switch KeyTracking(await master.connection.send(by: self.client.deadline, all: commands)) {
            case .refused:
                master.subscription.giveUpTracking()
                self.foreign.withLock { $0.drop(key) }
                return reply
            // With the next look it may do it.
            case .failed:
                self.changed([key], besides: request.id, after: ForeignLine.longestPause)
                place.checkAfter = min(place.checkAfter, ForeignLine.longestPause)
                return .waiting(place)
            case .gone:
                self.changed([key], besides: request.id)
                place.checkAfter = .zero
                return .waiting(place)
            case .tells:
                // Meanwhile it changed, or the connection is gone.
                guard self.foreign.withLock({ $0.isWatched(key) }) else {
                    place.checkAfter = .zero
                    return .waiting(place)
                }
            }
        }
        place.checkAfter = ForeignLine.check(on: holder)
        return .waiting(place)
    }

    /// Sends those who wait for keys to ask again, the first in line at once.
    ///
    /// - Parameters:
    ///   - keys: The keys that changed; `nil` for all.
    ///   - known: Who knows already.
    ///   - pause: When the first looks.
    func changed(_ keys: [String]?, besides known: RequestID? = nil, after pause: Duration = .zero) {
        for look in self.foreign.withLock({ $0.take(keys) }) where look.id != known {
            self.handlers.emit(.check(look.id, after: pause + look.pause))
        }
    }

    /// Forgets that a request waits for a foreign holder.
    func forgetForeign(_ request: GrantKey) {
        self.foreign.withLock { $0.forget(request.id, for: self.configuration.prefix + request.resource.name) }
    }
}
