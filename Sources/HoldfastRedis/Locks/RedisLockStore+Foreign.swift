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
    /// Who waits for a foreign holder, by place in line.
    typealias ForeignWaiters = [RequestID: Int]

    /// How much later each place in line looks than the one before: the first is enough, if it is there.
    private static let pausePerPlace: Duration = .milliseconds(2)
    /// The longest of these pauses.
    private static let longestPause: Duration = .milliseconds(100)
    /// How often to look at a key that never expires by itself, besides being told.
    private static let endlessCheck: Duration = .seconds(60)

    /// Has the server tell when a foreign holder's key changes.
    ///
    /// One round trip more, for the first such request of a store for each key. Where the server has no tracking, or the
    /// user may not use it, the first in line asks ten times a second, as the reply says.
    func watchingForeign(_ reply: AcquireReply, to request: LockRequest, on master: RedisMaster) async -> AcquireReply {
        guard case .waiting(var place) = reply, let holder = place.blockers.first, holder.reference == nil,
            holder.mode == .exclusive, let listener = master.subscription.tracker
        else { return reply }
        let key = self.configuration.prefix + request.resource.name
        let isTold = self.foreign.withLock { foreign in
            defer { foreign[key, default: [:]][request.id] = place.position }
            return foreign[key] != nil
        }
        if !isTold {
            switch await master.track(key, for: listener, by: self.client.deadline) {
            case .refused:
                master.subscription.giveUpTracking()
                self.foreign.withLock { $0[key] = nil }
                return reply
            // With the next look it may do it.
            case .failed:
                self.changed([key], besides: request.id, after: Self.longestPause)
                place.checkAfter = min(place.checkAfter, Self.longestPause)
                return .waiting(place)
            case .gone:
                self.changed([key], besides: request.id)
                place.checkAfter = .zero
                return .waiting(place)
            case .tells:
                // Meanwhile it changed, or the connection is gone.
                guard self.foreign.withLock({ $0[key] != nil }) else {
                    place.checkAfter = .zero
                    return .waiting(place)
                }
            }
        }
        place.checkAfter = (holder.remaining ?? Self.endlessCheck) + Limits.checkSpread
        return .waiting(place)
    }

    /// Sends those who wait for keys to ask again, the first in line at once.
    ///
    /// - Parameters:
    ///   - keys: The keys that changed; `nil` for all.
    ///   - known: Who knows already.
    ///   - pause: When the first looks.
    func changed(_ keys: [String]?, besides known: RequestID? = nil, after pause: Duration = .zero) {
        let waiting = self.foreign.withLock { foreign -> [ForeignWaiters] in
            guard let keys else {
                defer { foreign = [:] }
                return Array(foreign.values)
            }
            return keys.compactMap { foreign.removeValue(forKey: $0) }
        }
        for (id, position) in waiting.flatMap(\.self) where id != known {
            self.handlers.emit(.check(id, after: pause + min(Self.pausePerPlace * position, Self.longestPause)))
        }
    }

    /// Forgets that a request waits for a foreign holder.
    func forgetForeign(_ request: GrantKey) {
        self.foreign.withLock { foreign in
            guard !foreign.isEmpty else { return }
            let key = self.configuration.prefix + request.resource.name
            foreign[key]?[request.id] = nil
            if foreign[key]?.isEmpty == true { foreign[key] = nil }
        }
    }
}
