// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The times of ``CacheOptions`` in nanoseconds: worked out once for all entries that live by them.
@usableFromInline
package struct LifetimeRule: Sendable {
    /// The time to live, without its jitter; `nil` for no end.
    let life: Int64?
    /// The same for what is not there.
    let negativeLife: Int64?
    /// How long after a read an entry is kept; `Int64.max` for no such limit.
    let idle: Int64
    let jitter: Double
    let revalidates: Int64
    let keeps: Int64
    let refreshAhead: CacheOptions.RefreshAhead
    /// Whether a value never expires.
    @usableFromInline
    let isEndless: Bool

    /// Whether it is not remembered that there is nothing.
    @usableFromInline
    var forgetsNothing: Bool { self.negativeLife == 0 }

    /// Takes the times out of options.
    @usableFromInline
    package init(_ options: CacheOptions) {
        self.life = options.timeToLive?.nanoseconds
        self.negativeLife = options.negativeTimeToLive?.nanoseconds ?? self.life
        self.idle = options.idleTimeToLive?.nanoseconds ?? .max
        self.jitter = options.jitter
        self.revalidates = options.staleWhileRevalidate.nanoseconds
        self.keeps = max(options.staleWhileRevalidate, options.staleIfError).nanoseconds
        self.refreshAhead = options.refreshAhead
        self.isEndless = self.life == nil && self.idle == .max
    }
}
