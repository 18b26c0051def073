// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// What a read of one key would give now, and why.
///
/// Made by ``Cache/explain(_:)`` and ``SharedCache/explain(_:)``; nothing changes by it, and it is not counted as a read. A
/// picture of one moment: the next read may find something else. Names the key, tags, versions and times, and of errors
/// the type and code; never a value.
public struct CacheExplanation: Sendable, Hashable {
    /// What a read that may load would get.
    public enum Verdict: String, Sendable, Hashable, CaseIterable {
        /// What is in memory, fresh.
        case hit
        /// What is in memory, fresh; and a load begins in the background.
        case refreshing
        /// What is in memory though it has expired; and a load begins in the background.
        case revalidating
        /// What is in memory though it has expired, since a load failed or was left to others a moment ago.
        case resting
        /// A new value; what is in memory has expired, and is given when loading fails.
        case stale
        /// What is in memory if the tier confirms it: news of other processes may be missing.
        case suspect
        /// The error of the last load, which is remembered for a moment.
        case failing
        /// A new value: nothing is in memory.
        case absent
    }

    /// Where a value came from.
    public enum Origin: String, Sendable, Hashable, CaseIterable {
        /// A loader of this process.
        case loader
        /// The shared tier: loaded or set by another process, or by this one earlier.
        case tier
        /// This process set it.
        case set
    }

    /// What became of a key.
    public enum Cause: String, Sendable, Hashable, CaseIterable {
        /// Its time was over, the stale time included.
        case expired
        /// There was no room for it.
        case evicted
        /// This process removed it.
        case removed
        /// Another process changed or removed it.
        case changedElsewhere
        /// A tag of it was invalidated.
        case invalidatedByTag
        /// Keys that start like it were invalidated.
        case invalidatedByPrefix
        /// Everything was invalidated.
        case invalidatedByAll
        /// A load failed.
        case loadFailed
        /// A load was given up: its time was over, or nobody waited for it any more.
        case loadAbandoned
        /// What was loaded was not stored: the key was changed or invalidated meanwhile.
        case loadSuperseded
        /// What was loaded was not stored: the loader or the options said so.
        case notStored
    }

    /// What became of a key at some time.
    public struct Incident: Sendable, Hashable {
        /// What.
        public let cause: Cause
        /// How long ago.
        public let ago: Duration
        /// The tag, the prefix, or the error's type and code; `nil` where there is nothing to add.
        public let detail: String?
    }

    /// What is in memory.
    public struct Entry: Sendable, Hashable {
        /// Whether it says that there is nothing.
        public let isNegative: Bool
        /// Where it came from.
        public let origin: Origin
        /// Its version: that of the tier, or one of this process.
        public let version: UInt64
        /// How long ago it was put into memory.
        public let age: Duration
        /// How long it is fresh from now, or `nil` for as long as it is there; below zero: it has expired so long ago.
        public let freshFor: Duration?
        /// How long it is there from now, read or not, or `nil` for no such limit.
        public let keptFor: Duration?
        /// How long no load begins, since one failed or was left to others; zero when one may.
        public let restsFor: Duration
        /// What it weighs, by the weigher; 1 without one.
        public let weight: Int
        /// Its tags, sorted.
        public let tags: [String]
        /// What the loader called this state of the value.
        public let entityTag: String?
    }

    /// An error that is remembered.
    public struct Failure: Sendable, Hashable {
        /// Its type, and its code when it is one of this library's.
        public let error: String
        /// How much longer callers get it.
        public let remaining: Duration
    }

    /// A load that is under way in this process.
    public struct Load: Sendable, Hashable {
        /// For how long it is.
        public let since: Duration
        /// How many callers wait for it.
        public let callers: Int
        /// Whether it goes on though nobody waits for it.
        public let isDetached: Bool
    }

    /// A load that brought what was stored in this process' memory.
    public struct PastLoad: Sendable, Hashable {
        /// Who led it: called the loader.
        public enum Leader: Sendable, Hashable {
            /// This process: the owner and the token of the lock under which it did, `nil` without one.
            case thisProcess(OwnerID?, FencingToken?)
            /// Another process, or this one earlier; this process took what that one had written to the tier. Who that was is
            /// said there: ``Tier/writer``.
            case throughTier
        }

        /// Who led it.
        public let leader: Leader
        /// How long ago it ended.
        public let ago: Duration
        /// How long it took this process, what it waited for others included.
        public let took: Duration
    }

    /// Why a load could not begin now.
    public enum Obstacle: String, Sendable, Hashable, CaseIterable {
        /// Nobody runs the cache service, or it has stopped.
        case notRunning
        /// Too many loads are under way in the service.
        case loads
        /// Too many loaders of this key, or of this cache, were given up and still run.
        case abandonedLoads
    }

    /// What the shared tier has.
    public struct Tier: Sendable, Hashable {
        /// What may be done with it.
        public enum Standing: Sendable, Hashable {
            /// Give it.
            case fresh
            /// Give it, and load it anew in the background.
            case revalidating
            /// Load; give it when that fails.
            case stale
            /// Nothing is there.
            case absent
            /// It was removed, and whoever loaded it before must not write it any more.
            case removed
            /// It was invalidated after it was loaded.
            case invalidated(InvalidationScope)
            /// It is not an entry that this program can read; why.
            case unreadable(String)
            /// The tier did not answer; the error's type and code.
            case unavailable(String)
            /// The key is too long to be shared.
            case unshareable
        }

        /// What people call the tier.
        public let name: String
        /// What may be done with what is there.
        public let standing: Standing
        /// The version of the entry or the tombstone, 0 when there is neither.
        public var version: UInt64 = 0
        /// How long ago it was written, by the tier's clock.
        public var age: Duration = .zero
        /// Its bytes, the envelope included.
        public var size = 0
        /// The id of the codec that made them, where they can be read.
        public var codec: UInt8?
        /// Whether it says that there is nothing.
        public var isNegative = false
        /// How long it is fresh from now, or `nil` for ever; below zero: it has expired so long ago.
        public var freshFor: Duration?
        /// How long it took to load.
        public var loadTime: Duration?
        /// Who wrote it, by loading, setting or expiring it: `program[pid]@host`, as that process says itself; `nil` where it did
        /// not say.
        public var writer: String?
        /// Its tags, sorted.
        public var tags: [String] = []
        /// What the loader called this state of the value.
        public var entityTag: String?
    }

    /// The lock under which one process loads for all.
    public struct Lock: Sendable, Hashable {
        /// What the lock service calls it.
        public let resource: Resource
        /// Who has it: who loads the key now.
        public let holders: [Holder]
        /// How many wait for it; a process counts once.
        public let waiters: Int
        /// Why it is not known; the error's type and code.
        public let error: String?
    }

    /// The cache.
    public let cache: String
    /// The key's text; `nil` when keys of this cache have none.
    public let key: String?
    /// What a read would get.
    public let verdict: Verdict
    /// What is in memory, if a read may give it.
    public let entry: Entry?
    /// What became of the key, the latest first, as far as it is remembered: the last 128 incidents of its part of the memory.
    public let history: [Incident]
    /// Whether nothing was forgotten yet, so that a key without history was never there.
    public let historyIsComplete: Bool
    /// The error that callers get for now.
    public let failure: Failure?
    /// The load that a reader would join.
    public let load: Load?
    /// The last load of the key that brought something, if it is remembered: among the last 64 of its part of the memory.
    public let lastLoad: PastLoad?
    /// Loaders of the key that were given up and still run.
    public let abandonedLoads: Int
    /// Why no load could begin now.
    public let obstacle: Obstacle?
    /// What the shared tier has; `nil` for a cache without one, or when only memory was looked at.
    public internal(set) var tier: Tier?
    /// Who loads among all processes; `nil` without locks.
    public internal(set) var lock: Lock?
}
