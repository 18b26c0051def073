// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// The long waits of this process, over all of its services: how a circle that goes through two stores is followed.
///
/// A request is entered when it is first suspected, so most never are.
final class WaitRegistry: Sendable {
    /// An entry.
    struct Ticket: Sendable {
        fileprivate let owner: Key<OwnerID>
        fileprivate let number: UInt64
    }

    /// What an owner waits for in one service.
    struct Wait: Sendable {
        /// The service.
        let engine: Engine
        /// The resource.
        let resource: Resource
    }

    private struct Entry {
        let engine: Engine
        let suspect: Suspect
    }

    /// A name in one world of time: simulations with one seed draw the same numbers.
    fileprivate struct Key<Name: Hashable & Sendable>: Hashable, Sendable {
        let world: ObjectIdentifier?
        let name: Name
    }

    private struct State {
        var entries: [Key<OwnerID>: [UInt64: Entry]] = [:]
        var next: UInt64 = 0
        /// Requests that are giving up: a circle that one of them is in needs no other victim.
        var victims: Set<Key<String>> = []
        /// What each entry claimed.
        var claims: [UInt64: Key<String>] = [:]
    }

    /// The one of this process.
    static let shared = WaitRegistry()

    private let state = Mutex(State())

    /// Enters a request, until it is taken out.
    func enter(_ suspect: Suspect, of engine: Engine) -> Ticket {
        self.state.withLock { state in
            state.next += 1
            let owner = Key(world: engine.world, name: suspect.owner)
            state.entries[owner, default: [:]][state.next] = Entry(engine: engine, suspect: suspect)
            return Ticket(owner: owner, number: state.next)
        }
    }

    /// Takes a request out.
    func leave(_ ticket: Ticket) {
        self.state.withLock { state in
            state.entries[ticket.owner]?[ticket.number] = nil
            if let victim = state.claims.removeValue(forKey: ticket.number) { state.victims.remove(victim) }
            if state.entries[ticket.owner]?.isEmpty == true { state.entries[ticket.owner] = nil }
        }
    }

    /// What an owner waits for in other services of this process.
    func waits(of owner: OwnerID, outside engine: Engine) -> [Wait] {
        self.state.withLock { state in
            (state.entries[Key(world: engine.world, name: owner)] ?? [:]).values.compactMap { entry in
                entry.engine === engine ? nil : Wait(engine: entry.engine, resource: entry.suspect.resource)
            }
        }
    }

    /// Makes a request the one that gives up, unless another of its circle in this process is that already: two stores
    /// may not agree on who is younger.
    ///
    /// - Parameters:
    ///   - deadlock: The circle.
    ///   - engine: Where the request waits.
    ///   - ticket: Its entry; leaving gives the claim up.
    /// - Returns: Whether it is the one.
    func claim(_ deadlock: Deadlock, in engine: Engine, _ ticket: Ticket) -> Bool {
        let members = deadlock.cycle.map { Key(world: engine.world, name: $0.from.waiter.reference) }
        return self.state.withLock { state in
            guard members.allSatisfy({ !state.victims.contains($0) }) else { return false }
            state.victims.insert(members[0])
            state.claims[ticket.number] = members[0]
            return true
        }
    }
}
