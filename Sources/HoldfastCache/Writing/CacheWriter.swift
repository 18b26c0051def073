// SPDX-License-Identifier: Apache-2.0

/// What is written through a cache goes to its source by this.
///
/// ```swift
/// struct ProductWriter: CacheWriter {
///     func write(_ changes: [CacheChange<Int, Product>]) async throws {
///         try await database.transaction { rows in
///             for change in changes {
///                 switch change.action {
///                 case .set(let product): try await rows.upsert(change.key, product, ifOlderThan: change.version)
///                 case .remove: try await rows.delete(change.key, ifOlderThan: change.version)
///                 }
///             }
///         }
///     }
/// }
/// ```
///
/// A write whose answer was lost comes again, and so does one that a journal remembers: writing a change twice must be the
/// same as writing it once. A source that keeps the version of each key, and ignores what is not newer, is safe from late
/// copies too.
public protocol CacheWriter<Key, Value>: Sendable {
    /// How values are called.
    associatedtype Key: Hashable & Sendable
    /// What is written.
    associatedtype Value: Sendable

    /// Writes changes of different keys.
    ///
    /// Never called for a key while another call for it is under way in this process. Should heed cancellation: a call that
    /// takes too long is cancelled, and then awaited, at the end of the service too.
    ///
    /// - Parameter changes: One or more, each of another key, in no order that means something.
    /// - Throws: ``PartialWriteFailure`` when some were not written, and all others were; with any other error none counts
    ///   as written. ``PermanentWriteFailure`` says that trying again is of no use.
    func write(_ changes: [CacheChange<Key, Value>]) async throws
}

/// What becomes of a key.
public enum CacheAction<Value: Sendable>: Sendable {
    /// It has this value.
    case set(Value)
    /// It has none.
    case remove
}

extension CacheAction: Equatable where Value: Equatable {}

/// A change of one key, on its way to the source.
public struct CacheChange<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// The key.
    public let key: Key
    /// What becomes of it.
    public let action: CacheAction<Value>
    /// Grows with each change of a key.
    ///
    /// With a journal also from one run of the program to the next; written through under a lock it is the fencing token,
    /// and grows over all processes. Else it counts up from ``WriteBehindOptions/firstVersion`` in each process.
    public let version: UInt64
    /// How often it was tried, this time included: 1 or more.
    public let attempt: Int

    /// Describes a change.
    public init(key: Key, action: CacheAction<Value>, version: UInt64, attempt: Int = 1) {
        self.key = key
        self.action = action
        self.version = version
        self.attempt = attempt
    }
}

extension CacheChange: Equatable where Value: Equatable {}

/// What a writer throws when it wrote some of the changes and others not.
public struct PartialWriteFailure<Key: Hashable & Sendable>: Error, CustomStringConvertible {
    /// The keys that were not written, and why.
    public let failures: [Key: any Error]

    /// Makes one.
    ///
    /// - Parameter failures: The keys that were not written, and why; at least one of those that were to be.
    public init(_ failures: [Key: any Error]) { self.failures = failures }

    /// A sentence for people.
    public var description: String { "\(self.failures.count) changes could not be written" }
}

/// What a writer throws, for a batch or as the reason of one key, when trying again is of no use.
public struct PermanentWriteFailure: Error, CustomStringConvertible {
    /// A sentence for people.
    public let message: String
    /// What caused it.
    public let underlying: (any Error)?

    /// Makes one.
    public init(_ message: String, underlying: (any Error)? = nil) {
        self.message = message
        self.underlying = underlying
    }

    /// The sentence.
    public var description: String { self.message }
}

/// A change that could not be written and is not tried any more, until somebody says so.
public struct DeadLetter<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// The change, as it was tried last.
    public let change: CacheChange<Key, Value>
    /// Why the last attempt failed; `nil` when that was in an earlier run of the program.
    public let error: (any Error)?
}
