// SPDX-License-Identifier: Apache-2.0

/// What is known of an entry when it comes into a bounded memory tier.
public struct EvictionEntry: Sendable {
    /// A small number that stands for the entry until it is removed; reused afterwards.
    public let slot: Int32
    /// A hash of the key, seeded so that nobody outside can choose it.
    public let hash: UInt64
    /// How much of the capacity it takes, 0 or more; 0 is pinned and never evicted.
    public let weight: Int
    /// When it expires, in nanoseconds of any one clock; `Int64.max` for never.
    public let deadline: Int64

    /// Describes an entry.
    public init(slot: Int32, hash: UInt64, weight: Int, deadline: Int64 = .max) {
        self.slot = slot
        self.hash = hash
        self.weight = weight
        self.deadline = deadline
    }
}

/// Decides which entries leave a full memory tier.
///
/// A pure value, owned by one shard and called under its lock: no call may take long, call out, or (`hit`) allocate. After
/// each call the weights of the entries that it knows add up to at most ``capacity``, pinned ones not counted.
public protocol EvictionPolicy: Sendable {
    /// Makes a policy.
    ///
    /// - Parameters:
    ///   - capacity: The sum of weights that fits, 1 or more.
    ///   - seed: What its random choices are made from.
    init(capacity: Int, seed: UInt64)

    /// The sum of weights that fits.
    var capacity: Int { get }
    /// The sum of weights of the entries, pinned ones not counted.
    var weight: Int { get }

    /// Whether it goes by deadlines.
    ///
    /// If not, a value that takes the place of one of the same weight is a hit and no update.
    var heedsDeadlines: Bool { get }

    /// An entry came in.
    ///
    /// - Parameters:
    ///   - entry: The entry; its slot is not in use.
    ///   - evicted: Slots that leave are appended, the new one among them when it is not let in. They are removed already.
    mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32])

    /// An entry was read, or its value replaced by a caller.
    mutating func hit(_ slot: Int32)

    /// Entries were read, in this order.
    mutating func hits(_ slots: ContiguousArray<Int32>)

    /// An entry's value, and with it weight or deadline, was replaced.
    ///
    /// - Parameters:
    ///   - entry: The entry, with the slot that it has.
    ///   - evicted: Slots that leave are appended.
    mutating func update(_ entry: EvictionEntry, evicted: inout [Int32])

    /// An entry was removed for another reason: expired, invalidated.
    mutating func remove(_ slot: Int32)
}

extension EvictionPolicy {
    /// What one knows nothing of may go by them.
    public var heedsDeadlines: Bool { true }

    /// One after the other.
    public mutating func hits(_ slots: ContiguousArray<Int32>) { for slot in slots { self.hit(slot) } }
}
