// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Who waits by one store and accepts unasked, by lock: pure.
///
/// Whoever is missing here is handed the lock by message, and whoever is here and does not wait any more costs a release
/// a little; so what is too much is forgotten.
struct OwnLine: Sendable {
    private var waiting: [Resource: Set<RequestID>] = [:]
    private var count = 0

    /// Whether anybody waits for a lock.
    func isAwaited(_ resource: Resource) -> Bool { !self.waiting.isEmpty && self.waiting[resource] != nil }

    /// Who waits for a lock.
    func waiters(for resource: Resource) -> [RequestID] { self.waiting[resource].map(Array.init) ?? [] }

    /// Takes somebody in.
    mutating func enter(_ request: GrantKey) {
        if self.count >= Limits.rememberedRequests { self = OwnLine() }
        if self.waiting[request.resource, default: []].insert(request.id).inserted { self.count += 1 }
    }

    /// Notes that somebody does not wait any more.
    mutating func leave(_ request: GrantKey) {
        guard !self.waiting.isEmpty, self.waiting[request.resource]?.remove(request.id) != nil else { return }
        self.count -= 1
        if self.waiting[request.resource]?.isEmpty == true { self.waiting[request.resource] = nil }
    }
}
