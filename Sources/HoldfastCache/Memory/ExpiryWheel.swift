// SPDX-License-Identifier: Apache-2.0

/// Knows which slots expire, and finds those that have in constant time each.
///
/// Five wheels of growing spans: about a second, a minute, an hour, three days, and beyond. A slot lies in a bucket by
/// when it is due; as time passes, buckets of the coarse wheels are spread over the finer ones. Nothing is due early; it
/// may be found late by the span of its bucket, so reads look at the time of an entry as well. Source: Varghese and Lauck,
/// "Hashed and Hierarchical Timing Wheels", 1987.
@usableFromInline
struct ExpiryWheel: Sendable {
    private struct Node {
        var deadline: Int64 = .max
        var previous: Int32 = -1
        var next: Int32 = -1
        /// Which bucket it is in; -1 for none.
        var bucket: Int32 = -1
    }

    /// The width of a bucket of each wheel, as a power of two of nanoseconds: 1.07 s, 68.7 s, 73 min, 3.3 days.
    private static let shifts: [Int64] = [30, 36, 42, 48]
    private static let bucketsOfWheel = 64
    /// What lies beyond the last wheel.
    private static let overflow = Int32(Self.shifts.count * Self.bucketsOfWheel)

    private var heads = [Int32](repeating: -1, count: Int(Self.overflow) + 1)
    private var nodes: ContiguousArray<Node> = []
    private var now: Int64
    private(set) var count = 0

    /// Makes a wheel.
    ///
    /// - Parameter now: The time, in nanoseconds, from 0.
    init(now: Int64 = 0) { self.now = max(0, now) }

    /// Whether any slot can be due by a time that lies on in the finest wheel.
    func mayBeDue(at time: Int64) -> Bool { self.count > 0 && time >> Self.shifts[0] > self.now >> Self.shifts[0] }

    /// Sets when a slot is due; `Int64.max` for never.
    @usableFromInline
    mutating func schedule(_ slot: Int32, at deadline: Int64) {
        let index = Int(slot)
        while self.nodes.count <= index { self.nodes.append(Node()) }
        if self.nodes[index].bucket >= 0 { self.unlink(slot) }
        self.nodes[index].deadline = deadline
        guard deadline != .max else { return }
        self.link(slot, to: self.bucket(of: deadline))
    }

    /// Forgets a slot.
    @usableFromInline
    mutating func cancel(_ slot: Int32) {
        guard Int(slot) < self.nodes.count, self.nodes[Int(slot)].bucket >= 0 else { return }
        self.unlink(slot)
    }

    /// Lets time pass.
    ///
    /// - Parameters:
    ///   - time: The time now; the past is ignored.
    ///   - due: Slots that are due are appended, and forgotten.
    mutating func advance(to time: Int64, due: inout [Int32]) {
        guard time > self.now else { return }
        let before = self.now
        self.now = time
        guard self.count > 0 else { return }
        for (wheel, shift) in Self.shifts.enumerated() {
            let (from, to) = (before >> shift, time >> shift)
            // A coarser wheel has not moved either.
            guard to > from else { return }
            let passed = min(to - from, Int64(Self.bucketsOfWheel))
            // The bucket that was current may have what is due by now.
            for step in 0...passed where step < Int64(Self.bucketsOfWheel) {
                let bucket = Int(from + step) & (Self.bucketsOfWheel - 1)
                self.empty(Int32(wheel * Self.bucketsOfWheel + bucket), due: &due)
            }
        }
        self.empty(Self.overflow, due: &due)
    }

    private mutating func empty(_ bucket: Int32, due: inout [Int32]) {
        var slot = self.heads[Int(bucket)]
        self.heads[Int(bucket)] = -1
        while slot >= 0 {
            let node = self.nodes[Int(slot)]
            self.nodes[Int(slot)].bucket = -1
            self.count -= 1
            if node.deadline <= self.now {
                due.append(slot)
            } else {
                self.link(slot, to: self.bucket(of: node.deadline))
            }
            slot = node.next
        }
    }

    private func bucket(of deadline: Int64) -> Int32 {
        for (wheel, shift) in Self.shifts.enumerated() {
            let distance = (max(deadline, self.now) >> shift) - (self.now >> shift)
            if distance < Int64(Self.bucketsOfWheel) {
                let place = Int(max(deadline, self.now) >> shift) & (Self.bucketsOfWheel - 1)
                return Int32(wheel * Self.bucketsOfWheel + place)
            }
        }
        return Self.overflow
    }

    private mutating func link(_ slot: Int32, to bucket: Int32) {
        let head = self.heads[Int(bucket)]
        self.nodes[Int(slot)].previous = -1
        self.nodes[Int(slot)].next = head
        self.nodes[Int(slot)].bucket = bucket
        if head >= 0 { self.nodes[Int(head)].previous = slot }
        self.heads[Int(bucket)] = slot
        self.count += 1
    }

    private mutating func unlink(_ slot: Int32) {
        let node = self.nodes[Int(slot)]
        if node.previous >= 0 {
            self.nodes[Int(node.previous)].next = node.next
        } else {
            self.heads[Int(node.bucket)] = node.next
        }
        if node.next >= 0 { self.nodes[Int(node.next)].previous = node.previous }
        self.nodes[Int(slot)].bucket = -1
        self.count -= 1
    }
}
