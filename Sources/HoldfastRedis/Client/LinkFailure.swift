// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Why a connection ended.
package enum LinkFailure: Sendable {
    /// It could not be made.
    case unreachable(String)
    /// The server did not answer in time.
    case silent
    /// The server closed it.
    case closedByServer
    /// The network failed.
    case failed(String)
    /// The server cannot be used at the moment.
    case unfit(LockError)
    /// Encryption could not be agreed on, or the server is not who it should be.
    case insecure(String)
    /// What came is not Redis, or too large.
    case unreadable(ReplyReader.Failure)
    /// More replies came than commands were sent.
    case unasked
    /// The server refused us, or we refused it.
    case refused(LockError)

    /// Whether another try soon is pointless.
    var isRefusal: Bool {
        switch self {
        case .refused, .insecure: true
        case .unreachable, .silent, .unfit, .closedByServer, .failed, .unreadable, .unasked: false
        }
    }

    /// Why there is no connection, for callers whose commands were not sent.
    func unsent(to configuration: RedisConfiguration) -> LockError {
        let cause =
            switch self {
            case .unreachable(let reason), .failed(let reason): reason
            case .silent: "it does not answer"
            case .closedByServer: "it closes connections"
            case .insecure, .unreadable, .unasked, .refused, .unfit: self.error(for: configuration).message
            }
        return LockError(
            .storeUnavailable,
            "no connection to Redis at \(configuration.place); nothing was sent (\(cause))"
        )
    }

    /// The error for callers whose commands end with the connection.
    func error(for configuration: RedisConfiguration) -> LockError {
        let place = configuration.place
        switch self {
        case .unreachable(let reason):
            return LockError(.storeUnavailable, "cannot connect to Redis at \(place); check that it runs (\(reason))")
        case .silent:
            return LockError(
                .storeUnavailable,
                "Redis at \(place) did not answer within \(configuration.timeout); the outcome is unknown"
            )
        case .closedByServer:
            return LockError(.storeUnavailable, "Redis at \(place) closed the connection; the outcome is unknown")
        case .insecure(let reason): return LockError(.storeRefused, "no TLS with Redis at \(place): \(reason)")
        case .failed(let reason):
            return LockError(.storeUnavailable, "the connection to Redis at \(place) failed (\(reason))")
        case .unreadable(.notRedis):
            return LockError(.storeUnavailable, "what answers at \(place) is not a Redis server; check the port")
        case .unreadable(.tooLarge):
            return LockError(.storeUnavailable, "a reply of Redis at \(place) is larger than Holdfast accepts")
        case .unreadable(.outOfMemory):
            return LockError(.storeUnavailable, "no memory for a reply of Redis at \(place)")
        case .unasked:
            return LockError(.storeUnavailable, "Redis at \(place) sent a reply that nobody asked for")
        case .refused(let error), .unfit(let error): return error
        }
    }
}
