// SPDX-License-Identifier: Apache-2.0

/// Changes that the other processes are to be told of, in numbered messages: a pure value.
///
/// Many changes go in one message. Of several changes of one key, the one with the highest version is told, since they may
/// come in another order than the tier made them; of several invalidations of one scope, the one with the highest mark. What
/// does not fit is not told; its number is left out, so that the others notice a gap and doubt their memory.
package struct BusOutbox: Sendable {
    /// How many changes wait at most: with more, the bus does not work.
    static let mostChanges = 10_000

    private struct Queued: Sendable {
        let namespace: String
        let number: UInt64
        let change: BusMessage.Change
    }

    /// What a change is about, by bytes.
    private struct Name: Sendable, Hashable {
        let namespace: String
        let kind: UInt8
        let text: [UInt8]
        /// Of which of two tiers its number is: such numbers cannot be compared.
        let side: UInt64
    }

    private let origin: UInt64
    private let hasSides: Bool
    private var sequence: UInt64 = 0
    private var queue: [Queued] = []
    /// Where in the queue something is.
    private var places: [Name: Int] = [:]
    private var hasLostSome = false

    /// Nothing is to be told.
    ///
    /// - Parameters:
    ///   - origin: Who tells.
    ///   - hasSides: Whether versions and marks are those of two tiers, which their lowest bit says.
    package init(origin: UInt64, hasSides: Bool = false) {
        self.origin = origin
        self.hasSides = hasSides
    }

    /// Whether nothing waits.
    package var isEmpty: Bool { self.queue.isEmpty && !self.hasLostSome }

    /// Adds a change.
    package mutating func add(_ change: BusMessage.Change, in namespace: String) {
        guard let (kind, number, text) = change.parts else { return }
        let side = self.hasSides ? number & 1 : 0
        let name = Name(namespace: namespace, kind: kind, text: Array(text.utf8), side: side)
        let queued = Queued(namespace: namespace, number: number, change: change)
        if let place = self.places[name] {
            if self.queue[place].number < number { self.queue[place] = queued }
            return
        }
        guard self.queue.count < Self.mostChanges else {
            self.hasLostSome = true
            return
        }
        self.places[name] = self.queue.count
        self.queue.append(queued)
    }

    /// The next message; what it tells does not wait any more.
    package mutating func next() -> BusMessage? {
        if self.hasLostSome {
            self.hasLostSome = false
            self.sequence += 1
        } else if self.queue.isEmpty {
            return nil
        }
        self.sequence += 1
        var message = BusMessage(
            origin: self.origin,
            sequence: self.sequence,
            namespace: self.queue.first?.namespace ?? "-",
            changes: []
        )
        var room = CacheLimits.maximumMessage - message.encoded.count
        var count = 0
        for queued in self.queue {
            let size = queued.change.encodedSize
            guard queued.namespace == message.namespace, size <= room else { break }
            room -= size
            count += 1
            message.changes.append(queued.change)
        }
        self.queue.removeFirst(count)
        self.places = self.places.compactMapValues { $0 >= count ? $0 - count : nil }
        return message
    }
}
