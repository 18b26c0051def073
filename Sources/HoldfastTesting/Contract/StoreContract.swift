// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// The promises of `LockStore`, one case each, for the tests of any store.
///
/// ```swift
/// @Test(arguments: StoreContract.cases)
/// func keeps(_ promise: StoreContract.Case) async throws {
///     try await promise.check(StoreContract.Subject(namePrefix: "contract/") { try MyStore(url: url) })
/// }
/// ```
///
/// Depends on no test framework: a broken promise is a thrown ``Violation``.
public enum StoreContract {
    /// The store under test.
    public struct Subject: Sendable {
        /// Makes one more client of the same server; each is run by the case.
        public var makeStore: @Sendable () async throws -> any LockStore
        /// What all names begin with; a fresh one for each check keeps checks on one server apart.
        public var namePrefix: String
        /// Lets time pass for the store: a real pause, or a step of its clock.
        public var pass: @Sendable (Duration) async throws -> Void
        /// The shortest lease that can be told from a delay of the test machine; short leases in cases are this long.
        public var shortLease: Duration
        /// Whether all who look for deadlocks see the same ages: not so where several servers are read one by one.
        public var agreesOnAges = true

        /// Describes a store.
        ///
        /// - Parameters:
        ///   - namePrefix: What all names begin with.
        ///   - shortLease: The length of leases that cases let run out; a case waits for about twice as long.
        ///   - pass: Lets time pass; sleeps unless the store has a clock of its own.
        ///   - makeStore: Makes one more client of the same server.
        public init(
            namePrefix: String,
            shortLease: Duration = .milliseconds(400),
            pass: @escaping @Sendable (Duration) async throws -> Void = { try await ContinuousClock().sleep(for: $0) },
            makeStore: @escaping @Sendable () async throws -> any LockStore
        ) {
            self.namePrefix = namePrefix
            self.shortLease = shortLease
            self.pass = pass
            self.makeStore = makeStore
        }
    }

    /// A promise that was broken.
    public struct Violation: Error, CustomStringConvertible {
        /// What was found and where the case says otherwise.
        public let description: String
    }

    /// One promise.
    public struct Case: Sendable, CustomStringConvertible {
        /// The promise as a sentence.
        public let description: String
        private let applies: @Sendable (StoreCapabilities) -> Bool
        private let body: @Sendable (ContractBench) async throws -> Void

        init(
            _ description: String,
            if applies: @escaping @Sendable (StoreCapabilities) -> Bool = { _ in true },
            _ body: @escaping @Sendable (ContractBench) async throws -> Void
        ) {
            self.description = description
            self.applies = applies
            self.body = body
        }

        /// Whether a store of these capabilities makes this promise.
        public func applies(to capabilities: StoreCapabilities) -> Bool { self.applies(capabilities) }

        /// Checks the promise with two clients of the store; does nothing when the store does not make it.
        ///
        /// - Parameter subject: The store.
        /// - Throws: ``Violation`` when the promise is broken, or what the store throws.
        public func check(_ subject: Subject) async throws {
            let bench = ContractBench(subject, a: try await subject.makeStore(), b: try await subject.makeStore())
            guard self.applies(bench.a.store.capabilities) else { return }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await bench.a.store.run() }
                group.addTask { try await bench.b.store.run() }
                group.addTask { try await self.body(bench) }
                // The stores run until they are cancelled: the body ends first, unless a store cannot work at all.
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }

    /// All promises.
    public static let cases: [Case] =
        grants + queues + hands + ends + renewals + operators + surveys + limits + readers + conversions + barging
        + waits
}

// Conditions of cases, by name.
extension StoreContract {
    /// Whether a release makes the next waiter the holder.
    @Sendable static func handsOver(_ abilities: StoreCapabilities) -> Bool { abilities.queues && abilities.handsOver }

    @Sendable static func handsOverAndDelays(_ abilities: StoreCapabilities) -> Bool {
        handsOver(abilities) && abilities.delaysAfterLoss
    }

    /// Whether those who share a lock are granted in the order of a queue.
    @Sendable static func handsOverToReaders(_ abilities: StoreCapabilities) -> Bool {
        handsOver(abilities) && shares(abilities)
    }

    @Sendable static func queuesAndDelays(_ abilities: StoreCapabilities) -> Bool {
        abilities.queues && abilities.delaysAfterLoss
    }

    @Sendable static func convertsAndRests(_ abilities: StoreCapabilities) -> Bool {
        converts(abilities) && queuesAndDelays(abilities)
    }

    /// Whether grants outlive who took them: then any client can send a request, and all see how a grant stands.
    @Sendable static func keepsLeases(_ abilities: StoreCapabilities) -> Bool { abilities.sessionLease == nil }

    @Sendable static func queuesAndKeepsLeases(_ abilities: StoreCapabilities) -> Bool {
        abilities.queues && keepsLeases(abilities)
    }

    @Sendable static func prioritizes(_ abilities: StoreCapabilities) -> Bool {
        abilities.queues && abilities.prioritizes
    }

    @Sendable static func prioritizesReaders(_ abilities: StoreCapabilities) -> Bool {
        shares(abilities) && abilities.prioritizes
    }

    @Sendable static func barges(_ abilities: StoreCapabilities) -> Bool { abilities.queues && abilities.barges }

    @Sendable static func readersBarge(_ abilities: StoreCapabilities) -> Bool { shares(abilities) && abilities.barges }

    @Sendable static func lacksSomething(_ abilities: StoreCapabilities) -> Bool {
        !queuesAndDelays(abilities) || !abilities.prioritizes || !abilities.barges
    }

    @Sendable static func shares(_ abilities: StoreCapabilities) -> Bool {
        abilities.modes.contains(.shared) && abilities.queues
    }

    @Sendable static func givesPermits(_ abilities: StoreCapabilities) -> Bool {
        abilities.modes.contains(.permit) && abilities.queues
    }

    @Sendable static func upgradesAndShowsWaits(_ abilities: StoreCapabilities) -> Bool {
        converts(abilities) && abilities.showsWaits
    }

    @Sendable static func converts(_ abilities: StoreCapabilities) -> Bool {
        shares(abilities) && abilities.modes.contains(.update) && abilities.converts
    }
}
