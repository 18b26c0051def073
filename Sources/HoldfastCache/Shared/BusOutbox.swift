// SPDX-License-Identifier: Apache-2.0

/// Changes that the other processes are to be told of, in numbered messages: a pure value.
///
/// Many changes go in one message, and of several changes of one key the last. What does not fit is not told; its number
/// is left out, so that the others notice a gap and doubt their memory.
struct BusOutbox: Sendable {
    /// How many changes wait at most: with more, the bus does not work.
    static let mostChanges = 10_000

    private struct Queued: Sendable {
        let namespace: String
        let change: BusMessage.Change
    }

    private struct Name: Sendable, Hashable {
        let namespace: String
        let key: String
        let isChange: Bool
    }

    private let origin: UInt64
    private var sequence: UInt64 = 0
    private var queue: [Queued] = []
    /// Where in the queue a key is.
    private var places: [Name: Int] = [:]
    private var hasLostSome = false

    /// Nothing is to be told.
    ///
    /// - Parameter origin: Who tells.
    init(origin: UInt64) { self.origin = origin }

    /// Whether nothing waits.
    var isEmpty: Bool { self.queue.isEmpty && !self.hasLostSome }

    /// Adds a change.
    mutating func add(_ change: BusMessage.Change, in namespace: String) {
        var name: Name?
        switch change {
        case .changed(let key, _): name = Name(namespace: namespace, key: key, isChange: true)
        case .refreshed(let key, _): name = Name(namespace: namespace, key: key, isChange: false)
        case .invalidated, .unknown: break
        }
        if let name, let place = self.places[name] {
            self.queue[place] = Queued(namespace: namespace, change: change)
            return
        }
        guard self.queue.count < Self.mostChanges else {
            self.hasLostSome = true
            return
        }
        if let name { self.places[name] = self.queue.count }
        self.queue.append(Queued(namespace: namespace, change: change))
    }

    /// The next message; what it tells does not wait any more.
    mutating func next() -> BusMessage? {
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
