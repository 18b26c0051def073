// SPDX-License-Identifier: Apache-2.0

import DequeModule
package import HoldfastCore

/// Lets requests of one process through to the store one after the other: pure.
///
/// Two callers of one process exclude each other here, before anything is sent, by the same rule of modes that the
/// store has; so a process stands in a store's queue once per resource, however many tasks wait.
package struct LocalGate: Sendable {
    private struct Insider {
        let id: RequestID
        var mode: LockMode
    }

    /// Who is inside: mostly one, and then it costs no memory of its own.
    private struct Insiders {
        private var first: Insider?
        private var others: [Insider] = []

        init(_ first: Insider? = nil) { self.first = first }

        var isEmpty: Bool { self.first == nil }

        /// Whether this one is inside, and nobody else.
        func isOnly(_ id: RequestID) -> Bool { self.first?.id == id && self.others.isEmpty }

        var modes: [LockMode] { (self.first.map { [$0.mode] } ?? []) + self.others.map(\.mode) }

        mutating func append(_ insider: Insider) {
            if self.first == nil { self.first = insider } else { self.others.append(insider) }
        }

        /// - Returns: Whether it was inside.
        mutating func remove(_ id: RequestID) -> Bool {
            if self.first?.id == id {
                self.first = self.others.isEmpty ? nil : self.others.removeFirst()
                return true
            }
            guard let index = self.others.firstIndex(where: { $0.id == id }) else { return false }
            self.others.remove(at: index)
            return true
        }

        /// - Returns: Whether it is inside.
        mutating func change(_ id: RequestID, to mode: LockMode) -> Bool {
            if self.first?.id == id {
                self.first?.mode = mode
                return true
            }
            guard let index = self.others.firstIndex(where: { $0.id == id }) else { return false }
            self.others[index].mode = mode
            return true
        }
    }

    private struct Entry {
        var inside = Insiders()
        var queue: Deque<Queued> = []
    }

    private struct Queued {
        let id: RequestID
        let mode: LockMode
        let rank: Int64
    }

    /// The answer to somebody who asks to be let through.
    package enum Entrance: Sendable, Equatable {
        case admitted
        case queued
        case refused
        case full
    }

    private var entries: [Resource: Entry] = [:]

    /// Makes a gate that nobody is at.
    package init() {}

    /// How many resources somebody is inside or waits for.
    package var count: Int { self.entries.count }

    /// Asks to be let through.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - now: For the order of the queue, with the priority as a head start.
    /// - Returns: Whether it may go on, has to wait for ``leave(_:_:)`` to name it, or may not come in.
    package mutating func enter(_ request: LockRequest, at now: Timestamp) -> Entrance {
        guard var entry = self.entries.removeValue(forKey: request.resource) else {
            self.entries[request.resource] = Entry(inside: Insiders(Insider(id: request.id, mode: request.mode)))
            return .admitted
        }
        defer { self.entries[request.resource] = entry }
        let rank = now.nanoseconds - Limits.priorityHeadStart.nanoseconds * Int64(request.priority)
        let position = entry.queue.lastIndex { $0.rank <= rank }.map { $0 + 1 } ?? 0
        if position == 0, request.mode.isCompatible(with: entry.inside.modes) {
            entry.inside.append(Insider(id: request.id, mode: request.mode))
            return .admitted
        }
        guard request.contention == .queue else { return .refused }
        guard entry.queue.count < Limits.maximumWaiters else { return .full }
        entry.queue.insert(Queued(id: request.id, mode: request.mode, rank: rank), at: position)
        return .queued
    }

    /// Lets somebody in past the queue: who holds the lock in the store already.
    ///
    /// - Parameters:
    ///   - id: The request.
    ///   - mode: Its mode.
    ///   - resource: What it is for.
    package mutating func admit(_ id: RequestID, _ mode: LockMode, _ resource: Resource) {
        self.entries[resource, default: Entry()].inside.append(Insider(id: id, mode: mode))
    }

    /// Lets somebody in out of the queue, whoever is inside.
    ///
    /// - Parameters:
    ///   - id: The request.
    ///   - resource: What it is for.
    package mutating func pass(_ id: RequestID, _ resource: Resource) {
        guard var entry = self.entries[resource], let index = entry.queue.firstIndex(where: { $0.id == id }) else {
            return
        }
        entry.inside.append(Insider(id: id, mode: entry.queue.remove(at: index).mode))
        self.entries[resource] = entry
    }

    /// Notes that somebody inside has another mode now.
    ///
    /// - Parameters:
    ///   - id: The request.
    ///   - mode: Its mode.
    ///   - resource: What it is for.
    /// - Returns: Who is let through because of it.
    package mutating func change(_ id: RequestID, to mode: LockMode, _ resource: Resource) -> [RequestID] {
        guard var entry = self.entries[resource], entry.inside.change(id, to: mode) else { return [] }
        defer { self.entries[resource] = entry }
        return Self.admit(&entry)
    }

    /// Leaves, from inside or from the queue.
    ///
    /// - Parameters:
    ///   - id: The request.
    ///   - resource: What it is for.
    /// - Returns: Who is let through because of it.
    package mutating func leave(_ id: RequestID, _ resource: Resource) -> [RequestID] {
        guard var entry = self.entries.removeValue(forKey: resource) else { return [] }
        if entry.queue.isEmpty, entry.inside.isOnly(id) { return [] }
        if !entry.inside.remove(id), let index = entry.queue.firstIndex(where: { $0.id == id }) {
            entry.queue.remove(at: index)
        }
        let admitted = Self.admit(&entry)
        if !entry.inside.isEmpty || !entry.queue.isEmpty { self.entries[resource] = entry }
        return admitted
    }

    private static func admit(_ entry: inout Entry) -> [RequestID] {
        var admitted: [RequestID] = []
        while let first = entry.queue.first, first.mode.isCompatible(with: entry.inside.modes) {
            entry.queue.removeFirst()
            entry.inside.append(Insider(id: first.id, mode: first.mode))
            admitted.append(first.id)
        }
        return admitted
    }
}
