// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis

/// Advice that errors give to programmers, and that means nothing to who uses a program of theirs.
package enum CacheAdvice {
    /// Where the rules for a user of a server are.
    package static let permissions = "RedisCachePermissions shows the least that is needed"
}

/// Turns what the client throws into errors of a cache.
enum CacheFailure {
    /// The error for the caller.
    ///
    /// - Parameters:
    ///   - error: What the client threw.
    ///   - prefix: What the cache's keys start with, if it was about keys.
    ///   - channel: The bus' channel, if it was about messages.
    /// - Returns: The same in the words of a cache, and what a user of the server lacks.
    static func error(_ error: LockError, prefix: String? = nil, channel: String? = nil) -> CacheError {
        if let line = error.underlying as? RedisErrorLine, let lack = line.lack {
            let missing =
                switch lack {
                case .key: "may not touch the cache's keys; permit ~\(CacheKeys.literal(prefix ?? ""))*"
                case .channel: "may not use the channel of the cache's bus; permit &\(CacheKeys.literal(channel ?? ""))"
                case .scriptCommand: "may not run a command of the cache's scripts; see ACL LOG on the server for which"
                case .command(let command): "may not run \(command); permit +\(command)"
                }
            return CacheError(
                .tierRefused,
                "the Redis user \(missing) (\(CacheAdvice.permissions))",
                underlying: error
            )
        }
        return CacheError(Self.code(error.code), error.message, underlying: error)
    }

    private static func code(_ code: LockError.Code) -> CacheError.Code {
        switch code {
        case .invalidArgument, .unsupported: .invalidArgument
        case .storeRefused, .storeCorrupted: .tierRefused
        default: .tierUnavailable
        }
    }

    /// What no server of ours answers.
    static let unreadable = LockError(
        .storeCorrupted,
        "the Redis server gave an unexpected reply; check that it is Redis and no proxy that changes replies"
    )
}

/// Runs something of the client, with errors of a cache.
func withCacheErrors<Value>(
    prefix: String? = nil,
    channel: String? = nil,
    _ body: () async throws(LockError) -> Value
) async throws(CacheError) -> Value {
    do throws(LockError) {
        return try await body()
    } catch {
        throw CacheFailure.error(error, prefix: prefix, channel: channel)
    }
}
