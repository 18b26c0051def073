// SPDX-License-Identifier: Apache-2.0

import Holdfast
package import HoldfastCore
import HoldfastRedis
import HoldfastSQLite
import HoldfastZooKeeper

/// Makes stores of URLs: the one place that knows which stores there are.
package enum StoreFactory {
    /// Makes a store.
    ///
    /// - Parameter url: Where its locks live.
    /// - Returns: The store.
    /// - Throws: ``CommandFailure`` or `LockError`.
    package static func make(_ url: StoreURL) throws -> any LockStore {
        switch url {
        case .memory: return MemoryStore()
        case .sqlite(let path): return SQLiteLockStore(path: path)
        case .redis(let url):
            guard RedisQuorumConfiguration.names(severalIn: url) else {
                let store = try RedisLockStore(url: url)
                store.onCaution { Output.note("Redis server \($0.server): \($0.message)") }
                return store
            }
            let store = try RedisQuorumLockStore(url: url)
            store.onClockAlarm { alarm in
                let what = alarm.isJump ? "jumped by" : "is away from the others' by"
                Output.note(
                    "the clock of Redis server \(alarm.server) \(what) \(alarm.by.brief); leases there end at other times"
                )
            }
            return store
        case .zookeeper(let url): return try ZooKeeperLockStore(url: url)
        }
    }

    /// Makes a store on whose own thread callers can run.
    ///
    /// - Parameter url: Where its locks live.
    /// - Returns: The store.
    /// - Throws: ``CommandFailure`` where there is no such thread, or `LockError`.
    package static func makeRunningCallers(_ url: StoreURL) throws -> any LockStore {
        switch url {
        case .sqlite(let path): return SQLiteLockStore(path: path, offersExecutor: true)
        case .redis(let text) where !RedisQuorumConfiguration.names(severalIn: text):
            return try RedisLockStore(url: "\(text)\(text.contains("?") ? "&" : "?")executor=loop")
        case .memory, .redis, .zookeeper:
            throw CommandFailure(
                ExitStatus.configuration,
                "--executor loop is for the embedded store, one Redis, a Sentinel or a cluster"
            )
        }
    }

    /// Where callers of a store run without changing threads; `nil` where it has no such place.
    package static func executor(of store: any LockStore) -> (any TaskExecutor)? {
        (store as? RedisLockStore)?.executor ?? (store as? SQLiteLockStore)?.executor
    }

    /// How long a dead holder blocks others at most, where that is up to its session and not to its lease.
    ///
    /// - Throws: `LockError` when the URL cannot be read.
    package static func session(of url: StoreURL) throws -> Duration? {
        guard case .zookeeper(let text) = url else { return nil }
        return try ZooKeeperConfiguration(url: text).sessionTimeout
    }

    /// The name of a store for output, without secrets and with the default path filled in.
    package static func name(of url: StoreURL) -> String {
        guard url == .sqlite(path: nil), let path = SQLiteLockStore(path: nil).path else { return url.description }
        return "sqlite:\(path)"
    }

    /// The versions of the libraries that the stores use.
    package static var libraries: [(name: String, version: String)] {
        [
            ("hiredis", HiredisVersion.text), ("SQLite", SQLiteVersion.text),
            ("ZooKeeper client", ZooKeeperClientVersion.text),
        ]
    }
}
