// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The limits of caches, and why they are what they are.
public enum CacheLimits {
    /// The longest key in a shared tier, in bytes: what an index of another store takes too.
    public static let maximumKey = 1024
    /// The longest namespace, in bytes.
    public static let maximumNamespace = 128
    /// The longest tag, in bytes.
    public static let maximumTag = 128
    /// The most tags of an entry: each is looked at on every read.
    public static let maximumTags = 32
    /// The most keys of one round trip to a tier: a script or command of more would hold up others.
    public static let maximumBatch = 512
    /// The most groups of keys that are counted by themselves: each is a series of every metric.
    public static let maximumGroups = 64
    /// Where the keys of all further groups are counted.
    public static let otherGroup = "other"
    /// The most invalidations of a cache that are scheduled at once: each has an alarm, and they are few or a mistake.
    public static let maximumScheduled = 1024
    /// The longest message on a bus, in bytes.
    public static let maximumMessage = 32 * 1024
    /// The most prefixes with a mark of their own; beyond that the next is an invalidation of everything.
    public static let maximumPrefixes = 64
    /// The largest value in a shared tier, in bytes, unless a cache says otherwise; looked at before anything is decoded:
    /// 20 MB of nested JSON cost 428 MB when measured.
    public static let defaultMaximumValue = 1 << 20
    /// The largest value that a cache may allow, in bytes: above, one value holds up a server's other work for long.
    public static let largestValue = 8 << 20
    /// The longest time that an entry may live in a shared tier, stale time included.
    ///
    /// Marks are kept for a day longer.
    public static let longestLife: Duration = .seconds(30 * 24 * 60 * 60)
    /// How long the mark of an invalidation is kept: no entry outlives it.
    public static let markLife: Duration = .seconds(31 * 24 * 60 * 60)
    /// How often a change of one entry is tried when others change the same key: with pauses at random between them,
    /// hundreds of writers get through.
    static let mostAttempts = 100
    /// How often something is looked up or written when a tier switches to another one meanwhile: it does that once in
    /// a second at most.
    static let mostLooks = 3
    /// How often a change of one entry in memory is tried.
    ///
    /// Of those who change a key at the same time one gets through each time, but a thread that had to sleep for a lock may
    /// find others faster for long. Ten milliseconds or so in all.
    static let mostSwaps = 10_000
    /// The highest version that changes of a source may begin at, or a journal bring: above it there would be too little room
    /// to count up, and no fencing token is there.
    static let highestVersion: UInt64 = 1 << 62
    /// The pauses between attempts in a tier: longer than one change takes, and no longer than people notice.
    static let pausesBetweenAttempts = RetrySchedule(base: .milliseconds(1), cap: .milliseconds(20))
    /// How long a load waits for the answer of a lock service at most, unless the tier says how long its own calls take.
    static let longestWait: Duration = .seconds(1)
    /// The longest time that one load may take.
    public static let longestLoad: Duration = .seconds(60 * 60)
    /// How long a removal refuses late writers: longer than any load may take, whatever deadline its call says.
    static let tombstoneLife: Duration = longestLoad + .seconds(60)
}
