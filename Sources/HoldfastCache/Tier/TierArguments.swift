// SPDX-License-Identifier: Apache-2.0

/// What every tier checks before it does anything.
extension CacheLimits {
    /// Checks a namespace and keys.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``, which names the limit.
    package static func check(_ keys: some Collection<String>, in namespace: String) throws(CacheError) {
        guard (1...self.maximumNamespace).contains(namespace.utf8.count) else {
            throw CacheError(.invalidArgument, "a namespace has 1 to \(self.maximumNamespace) bytes")
        }
        guard keys.count <= self.maximumBatch else {
            throw CacheError(.invalidArgument, "at most \(self.maximumBatch) keys go in one call, not \(keys.count)")
        }
        for key in keys where key.utf8.count > self.maximumKey {
            throw CacheError(
                .invalidArgument,
                "a key has at most \(self.maximumKey) bytes, this one \(key.utf8.count); use a digest of it"
            )
        }
    }

    /// Checks a namespace and tags.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``, which names the limit.
    package static func check(tags: some Collection<String>, in namespace: String) throws(CacheError) {
        try self.check([], in: namespace)
        guard tags.count <= self.maximumBatch else {
            throw CacheError(.invalidArgument, "at most \(self.maximumBatch) tags go in one call, not \(tags.count)")
        }
        for tag in tags where tag.utf8.count > self.maximumTag {
            throw CacheError(
                .invalidArgument,
                "a tag has at most \(self.maximumTag) bytes, this one \(tag.utf8.count)"
            )
        }
    }

    /// Checks what an invalidation is about.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``, which names the limit.
    package static func check(_ scope: InvalidationScope, in namespace: String) throws(CacheError) {
        switch scope {
        case .all: try self.check([], in: namespace)
        case .tag(let tag): try self.check(tags: [tag], in: namespace)
        case .prefix(let prefix): try self.check([prefix], in: namespace)
        }
    }

    /// Checks a message of a bus.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``, which names the limit.
    package static func check(message: [UInt8]) throws(CacheError) {
        guard message.count <= self.maximumMessage else {
            throw CacheError(
                .invalidArgument,
                "a message has at most \(self.maximumMessage) bytes, this one \(message.count)"
            )
        }
    }
}
