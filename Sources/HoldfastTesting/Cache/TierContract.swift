// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
import HoldfastCore
import Synchronization

/// The promises of `CacheTier` and `CacheBus`, one case each, for the tests of any tier.
///
/// ```swift
/// @Test(arguments: TierContract.cases)
/// func keeps(_ promise: TierContract.Case) async throws {
///     try await promise.check(TierContract.Subject { try MyTier(url: url) })
/// }
/// ```
///
/// Depends on no test framework: a broken promise is a thrown ``Violation``.
public enum TierContract {
    /// The tier under test.
    public struct Subject: Sendable {
        /// Makes one more client of the same tier.
        public var makeTier: @Sendable () async throws -> any CacheTier
        /// A time to live that can be told from a delay of the test machine; cases wait for about twice as long.
        public var shortLife: Duration
        /// Lets time pass for the tier: a real pause, or a step of its clock.
        public var pass: @Sendable (Duration) async throws -> Void

        /// Describes a tier.
        ///
        /// - Parameters:
        ///   - shortLife: The length of lives that cases let run out.
        ///   - pass: Lets time pass; sleeps unless the tier has a clock of its own.
        ///   - makeTier: Makes one more client of the same tier.
        public init(
            shortLife: Duration = .milliseconds(500),
            pass: @escaping @Sendable (Duration) async throws -> Void = { try await ContinuousClock().sleep(for: $0) },
            makeTier: @escaping @Sendable () async throws -> any CacheTier
        ) {
            self.shortLife = shortLife
            self.pass = pass
            self.makeTier = makeTier
        }
    }

    /// A promise that was broken.
    public struct Violation: Error, CustomStringConvertible {
        /// What was found and where the case says otherwise.
        public let description: String
    }

    /// One promise of a tier.
    public struct Case: Sendable, CustomStringConvertible {
        /// The promise as a sentence.
        public let description: String
        private let body: @Sendable (TierBench) async throws -> Void

        init(_ description: String, _ body: @escaping @Sendable (TierBench) async throws -> Void) {
            self.description = description
            self.body = body
        }

        /// Checks the promise with two clients of the tier, in namespaces of its own.
        ///
        /// - Parameter subject: The tier.
        /// - Throws: ``Violation`` when the promise is broken, or what the tier throws.
        public func check(_ subject: Subject) async throws {
            try await self.body(
                TierBench(subject, a: try await subject.makeTier(), b: try await subject.makeTier())
            )
        }
    }

    /// All promises of a tier.
    public static let cases: [Case] = versions + removals + lives + names + marks + limits

    /// One promise of a bus.
    public struct BusCase: Sendable, CustomStringConvertible {
        /// The promise as a sentence.
        public let description: String
        private let body: @Sendable (BusBench) async throws -> Void

        init(_ description: String, _ body: @escaping @Sendable (BusBench) async throws -> Void) {
            self.description = description
            self.body = body
        }

        /// Checks the promise with two clients of the bus, which nobody else publishes on.
        ///
        /// - Parameter makeBus: Makes one more client of the bus.
        /// - Throws: ``Violation`` when the promise is broken, or what the bus throws.
        public func check(_ makeBus: () async throws -> any CacheBus) async throws {
            let bench = BusBench(a: try await makeBus(), b: try await makeBus())
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for bus in [bench.a, bench.b] {
                    group.addTask {
                        try await bus.run()
                        return false
                    }
                }
                group.addTask {
                    try await self.body(bench)
                    return true
                }
                defer { group.cancelAll() }
                // A bus without work of its own ends before the body does.
                while try await group.next() == false {}
            }
        }
    }

    /// All promises of a bus.
    public static let busCases: [BusCase] = messages
}

/// Two clients of one tier, a namespace, and shorthands for cases.
final class TierBench: Sendable {
    let subject: TierContract.Subject
    let a: any CacheTier
    let b: any CacheTier
    let namespace: String

    init(_ subject: TierContract.Subject, a: any CacheTier, b: any CacheTier) {
        self.subject = subject
        self.a = a
        self.b = b
        var generator = SystemRandomNumberGenerator()
        self.namespace = "contract-\(Hex.text(of: generator.next()))"
    }

    // MARK: - Doing

    /// Writes one entry and gives the reply.
    func put(
        _ key: String,
        _ text: String,
        life: Duration = .seconds(60),
        if condition: TierWrite.Condition = .always,
        token: UInt64 = 0,
        by tier: (any CacheTier)? = nil
    ) async throws -> TierWriteReply {
        let write = TierWrite(
            key: key,
            payload: Array(text.utf8),
            timeToLive: life,
            condition: condition,
            token: token
        )
        let replies = try await (tier ?? self.a).write([write], in: self.namespace)
        try self.equal(replies.count, 1)
        return replies[0]
    }

    /// Writes one entry, which must be accepted.
    @discardableResult
    func write(
        _ key: String,
        _ text: String,
        life: Duration = .seconds(60),
        if condition: TierWrite.Condition = .always,
        token: UInt64 = 0,
        by tier: (any CacheTier)? = nil,
        line: Int = #line
    ) async throws -> UInt64 {
        let reply = try await self.put(key, text, life: life, if: condition, token: token, by: tier)
        guard case .written(let version) = reply else { throw self.broken("written", reply, line) }
        return version
    }

    /// Reads one entry by the other client; its age apart, which no case can foresee.
    func read(_ key: String, by tier: (any CacheTier)? = nil) async throws -> TierEntry {
        let reading = try await (tier ?? self.b).read([key], in: self.namespace)
        try self.equal(reading.entries.count, 1)
        return TierEntry(payload: reading.entries[0].payload, version: reading.entries[0].version)
    }

    /// How long ago an entry was written, as the other client is told.
    func age(of key: String) async throws -> Duration {
        let reading = try await self.b.read([key], in: self.namespace)
        try self.equal(reading.entries.count, 1)
        return reading.entries[0].age
    }

    func marks() async throws -> TierMarks { try await self.b.read([], in: self.namespace).marks }

    func remove(_ key: String, keepFor: Duration = .seconds(60)) async throws -> UInt64 {
        let versions = try await self.a.remove([key], in: self.namespace, keepFor: keepFor)
        try self.equal(versions.count, 1)
        return versions[0]
    }

    /// All keys, page by page.
    func keys(_ prefix: String = "", in namespace: String? = nil) async throws -> [String] {
        var keys: [String] = []
        var cursor: String?
        repeat {
            let page = try await self.b.keys(in: namespace ?? self.namespace, prefix: prefix, after: cursor)
            keys += page.keys
            cursor = page.next
        } while cursor != nil
        return keys
    }

    /// Lets time pass until what lives for a short time is gone.
    func passShortLife() async throws { try await self.subject.pass(self.subject.shortLife * 1.5) }

    // MARK: - Judging

    func equal<Value: Equatable>(_ found: Value, _ expected: Value, line: Int = #line) throws {
        if found != expected { throw self.broken("\(expected)", found, line) }
    }

    func check(_ condition: Bool, _ message: String, line: Int = #line) throws {
        if !condition { throw TierContract.Violation(description: "\(message) (line \(line))") }
    }

    /// Reports that a call was refused with an error that says why.
    func refuses(_ reason: String, line: Int = #line, _ call: () async throws -> Void) async throws {
        do {
            try await call()
        } catch let error as CacheError where error.code == .invalidArgument {
            try self.check(error.message.contains(reason), "\(error) does not name \(reason)", line: line)
            return
        }
        throw TierContract.Violation(description: "the call went through (line \(line))")
    }

    func broken(_ expected: String, _ found: some Any, _ line: Int) -> TierContract.Violation {
        TierContract.Violation(description: "expected \(expected), found \(found) (line \(line))")
    }
}
