// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Writing to the source.
extension SharedCache {
    /// Writes a value to the source, to the tier and to memory, as ``CacheConfiguration/writing`` says, and tells the other
    /// processes.
    ///
    /// As ``Cache/write(_:for:options:)``, and: written through with locks, processes write a key one after the other, and
    /// the version of the change is the fencing token. Written behind, what another process loads from the source before it
    /// is written there, because the tier has lost it, is the old value. Let one process write a key behind, since the
    /// versions of two cannot be compared.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - key: The key.
    ///   - options: How the entry lives in the cache; `nil` for as the cache says.
    /// - Throws: As ``Cache/write(_:for:options:)``; ``CacheError`` with code ``CacheError/Code/lockUnavailable`` when there
    ///   are locks that do not work and ``CacheOptions/lockOutage`` is not `proceedLocally`, and nothing changed; or with the
    ///   codes of the tier: then the source has the value or will have it, and other processes may not have noticed.
    public func write(_ value: Value, for key: Key, options: CacheOptions? = nil) async throws {
        let options = options ?? self.options
        try options.validate()
        // What the tier would not take must not be in the source either.
        try CacheLimits.check([self.link.text(key)], in: self.name)
        guard try self.link.codec.encode(value).count <= self.link.maximumValue else {
            throw CacheError(
                .invalidArgument,
                "the value has more than \(self.link.maximumValue) bytes (maximumSharedValue)"
            )
        }
        try await self.memory.send(.set(value), key) {
            try await self.writeLock(key, options)
        } _: {
            try await self.set(value, for: key, options: options)
        } forget: {
            try await self.remove(key)
        }
    }

    /// Removes a key from the source, from the tier and from memory, as ``CacheConfiguration/writing`` says, and tells the
    /// other processes.
    ///
    /// - Parameter key: The key.
    /// - Throws: As ``write(_:for:options:)``.
    public func erase(_ key: Key) async throws {
        try await self.memory.send(.remove, key) {
            try await self.writeLock(key, self.options)
        } _: {
            try await self.remove(key)
        } forget: {
            try await self.remove(key)
        }
    }

    /// The lock under which all processes write a key; another one than that of its loads, which may take long.
    private func writeLock(_ key: Key, _ options: CacheOptions) async throws -> Lease? {
        guard options.coordination == .distributed, let locks = self.memory.service.locks else { return nil }
        do {
            let resource = Resource(escaping: "cache-write/\(self.name)/\(self.link.text(key))")
            return try await locks.acquire(resource, lease: self.link.fillLease)
        } catch let error as CancellationError {
            throw error
        } catch {
            guard options.lockOutage == .proceedLocally else {
                throw CacheError(
                    .lockUnavailable,
                    "the lock for a write of \(self.name) cannot be had",
                    underlying: error
                )
            }
            self.memory.counts.withLock { $0.unlockedFills &+= 1 }
            self.memory.service.observe(.unlockedFill(cache: self.name, error: error))
            return nil
        }
    }

    // MARK: - Dead letters

    /// The changes of this process that could not be written.
    ///
    /// - Returns: As ``Cache/deadLetters()``.
    public func deadLetters() -> [DeadLetter<Key, Value>] { self.memory.deadLetters() }

    /// Has dead letters be tried again.
    ///
    /// - Parameter keys: Theirs; `nil` for all.
    /// - Returns: As ``Cache/retryDeadLetters(_:)``.
    @discardableResult
    public func retryDeadLetters(_ keys: [Key]? = nil) -> Int { self.memory.retryDeadLetters(keys) }

    /// Forgets dead letters.
    ///
    /// - Parameter keys: Theirs.
    /// - Returns: How many there were.
    /// - Throws: As ``Cache/discardDeadLetters(_:)``.
    @discardableResult
    public func discardDeadLetters(_ keys: [Key]) async throws -> Int { try await self.memory.discardDeadLetters(keys) }
}
