// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A resource that checks fencing tokens: the half of the promise that a lock cannot keep alone.
///
/// A lease can end while its holder is stopped, swapped out or cut off, and the holder may then wake up and write. Only
/// the resource itself can refuse that late write, by comparing the token that comes with it. If every write goes
/// through such a store with the token of its grant, then once a write of a later holder was accepted, no write of an
/// earlier holder is; nothing is assumed about clocks or pauses.
///
/// The rule is `token >= highest`, as in ``Fence``: a holder may write many times with one token. Tokens must come from
/// one lock store and one resource; tokens of two locks cannot be compared.
///
/// What it does not give: exclusion of *readers*, or of writers that do not pass a token. A former holder may still
/// write until a later one has written for the first time; whoever must rule that out writes once, with what it read,
/// as the first thing under the lock.
public protocol FencedStore<Value>: Sendable {
    /// What is stored.
    associatedtype Value: Sendable

    /// Writes the value unless a higher token was accepted before.
    ///
    /// The check and the write are one step: no other write comes between them.
    ///
    /// - Parameters:
    ///   - value: The new value.
    ///   - token: The token of the writer's grant.
    /// - Throws: `LockError` with code `fenced` when a higher token was accepted before; the value is then unchanged.
    ///   Other errors leave it either unchanged or written.
    func write(_ value: Value, fencedBy token: FencingToken) async throws

    /// Reads the value and the token that it was written with.
    ///
    /// - Returns: Both, or `nil` when nothing was written yet.
    /// - Throws: Errors of the storage.
    func read() async throws -> Fenced<Value>?
}

/// A value and the token that it was written with.
public struct Fenced<Value> {
    /// The value.
    public var value: Value
    /// The token of the grant under which it was written: the highest one accepted.
    public var token: FencingToken

    /// Makes a pair.
    public init(value: Value, token: FencingToken) {
        self.value = value
        self.token = token
    }
}

extension Fenced: Sendable where Value: Sendable {}
extension Fenced: Equatable where Value: Equatable {}
extension Fenced: Hashable where Value: Hashable {}
