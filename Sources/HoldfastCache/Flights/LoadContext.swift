// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// What a loader is told, and what it may say about what it loads.
///
/// ```swift
/// try await pages.value(for: path) { context in
///     let response = try await client.get(path, ifNoneMatch: context.stale?.entityTag)
///     if response.status == 304 { return try context.notModified() }
///     context.timeToLive = response.maxAge
///     context.tags.insert("site/\(response.site)")
///     context.entityTag = response.entityTag
///     return response.body
/// }
/// ```
///
/// What is said after the load has ended has no effect.
public final class LoadContext<Value: Sendable>: Sendable {
    /// A value that is there though it is not fresh.
    public struct Stale: Sendable {
        /// The value.
        public let value: Value
        /// How long ago it was stored.
        public let age: Duration
        /// What the loader said when it loaded it.
        public let entityTag: String?
    }

    /// What a loader said.
    struct Settings: Sendable {
        var options: CacheOptions
        var entityTag: String?
        var isSkipped = false
        var isNotModified = false
        var isOver = false
    }

    /// The present value, if there is one that may still be shown.
    public let stale: Stale?
    /// Whether nobody waits for this load: it refreshes what is still fresh or shown as stale.
    public let isBackground: Bool
    /// The token of the lock under which this load runs, for a source that checks tokens; `nil` without a lock.
    public let fencingToken: FencingToken?
    /// When the load is given up.
    public let deadline: ContinuousClock.Instant
    private let settings: Mutex<Settings>

    init(
        _ options: CacheOptions,
        stale: Stale?,
        isBackground: Bool,
        fencingToken: FencingToken?,
        deadline: ContinuousClock.Instant
    ) {
        self.stale = stale
        self.isBackground = isBackground
        self.fencingToken = fencingToken
        self.deadline = deadline
        self.settings = Mutex(Settings(options: options))
    }

    private subscript<Setting: Sendable>(path: any WritableKeyPath<Settings, Setting> & Sendable) -> Setting {
        get { self.settings.withLock { $0[keyPath: path] } }
        set { self.settings.withLock { if !$0.isOver { $0[keyPath: path] = newValue } } }
    }

    /// How the loaded entry lives: the options of the call, to be changed for this load.
    public var options: CacheOptions {
        get { self[\.options] }
        set { self[\.options] = newValue }
    }

    /// How long the value is fresh, or `nil` for as long as it is there.
    public var timeToLive: Duration? {
        get { self[\.options.timeToLive] }
        set { self[\.options.timeToLive] = newValue }
    }

    /// What is said of the entry, so that it can be invalidated with others.
    public var tags: Set<String> {
        get { self[\.options.tags] }
        set { self[\.options.tags] = newValue }
    }

    /// Kept with the value and given to the next load of the key as ``Stale/entityTag``.
    public var entityTag: String? {
        get { self[\.entityTag] }
        set { self[\.entityTag] = newValue }
    }

    /// Gives the value to those who wait, and stores nothing.
    public func skipCaching() { self[\.isSkipped] = true }

    /// Says that the present value is still right: it is fresh again from now on.
    ///
    /// - Returns: That value, for the loader to return.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when there is none.
    public func notModified() throws -> Value {
        guard let stale = self.stale else {
            throw CacheError(.invalidArgument, "there is no present value that could be unmodified")
        }
        self[\.isNotModified] = true
        return stale.value
    }

    /// Ends the time for saying something.
    func close() -> Settings {
        self.settings.withLock { settings in
            settings.isOver = true
            return settings
        }
    }
}
