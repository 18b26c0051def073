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
/// A value that is not modified keeps its tags, its entity tag and the life it was given; see ``notModified()``. What is
/// said after the load has ended has no effect.
public final class LoadContext<Value: Sendable>: Sendable {
    /// A value that is there though it is not fresh.
    public struct Stale: Sendable {
        /// The value.
        public let value: Value
        /// How long ago it was stored.
        public let age: Duration
        /// What the loader said when it loaded it.
        public let entityTag: String?
        /// What is said of it.
        let tags: [String]
        /// How it was to live; `nil` where that is not known any more.
        var term: LifeTerm?
        /// Its version.
        let version: UInt64
    }

    /// What a loader said.
    struct Settings: Sendable {
        var options: CacheOptions
        var entityTag: String?
        var isSkipped = false
        var isOver = false
        /// What the loader said himself, so that it is not that of the present value.
        var saysLife = false
        var saysTags = false
        var saysEntityTag = false
        /// Whether it lives as the present value did, jitter and all.
        var keepsLife = false

        init(options: CacheOptions) { self.options = options }

        /// Changes the life.
        mutating func sayLife(_ change: (inout CacheOptions) -> Void) {
            change(&self.options)
            (self.saysLife, self.keepsLife) = (true, false)
        }

        /// Takes what the loader did not say from the present value.
        mutating func keep(_ stale: Stale) {
            if !self.saysTags {
                // Those of the value first: each call may bring others, and an entry has room for so many only.
                let room = CacheLimits.maximumTags - stale.tags.count
                let others = self.options.tags.subtracting(stale.tags).sorted().prefix(max(0, room))
                self.options.tags = Set(stale.tags).union(others)
            }
            if !self.saysEntityTag { self.entityTag = stale.entityTag }
            guard !self.saysLife, let term = stale.term else { return }
            self.options.take(term)
            self.keepsLife = true
        }
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
    /// Told of other tags.
    private let onTags: @Sendable (Set<String>) -> Void

    init(
        _ options: CacheOptions,
        stale: Stale?,
        isBackground: Bool,
        fencingToken: FencingToken?,
        deadline: ContinuousClock.Instant,
        onTags: @escaping @Sendable (Set<String>) -> Void
    ) {
        self.stale = stale
        self.isBackground = isBackground
        self.fencingToken = fencingToken
        self.deadline = deadline
        self.settings = Mutex(Settings(options: options))
        self.onTags = onTags
    }

    /// Takes note of what the loader says, while the load is under way.
    private func say(_ change: (inout Settings) -> Void) {
        self.settings.withLock { settings in
            guard !settings.isOver else { return }
            let tags = settings.options.tags
            change(&settings)
            // Under the lock, so that what is told last is what was said last.
            if settings.options.tags != tags { self.onTags(settings.options.tags) }
        }
    }

    /// How the loaded entry lives: the options of the call, to be changed for this load.
    public var options: CacheOptions {
        get { self.settings.withLock { $0.options } }
        set {
            self.say { settings in
                if settings.options.tags != newValue.tags { settings.saysTags = true }
                settings.sayLife { $0 = newValue }
            }
        }
    }

    /// How long the value is fresh, or `nil` for as long as it is there.
    public var timeToLive: Duration? {
        get { self.settings.withLock { $0.options.timeToLive } }
        set { self.say { settings in settings.sayLife { $0.timeToLive = newValue } } }
    }

    /// What is said of the entry, so that it can be invalidated with others.
    ///
    /// Say it as early as it is known: who asks after a tag was invalidated does not wait for a load that is known to carry
    /// it. Whenever it is said, nothing is stored that was invalidated since the load began.
    public var tags: Set<String> {
        get { self.settings.withLock { $0.options.tags } }
        set {
            self.say { settings in
                settings.options.tags = newValue
                settings.saysTags = true
            }
        }
    }

    /// Kept with the value and given to the next load of the key as ``Stale/entityTag``.
    public var entityTag: String? {
        get { self.settings.withLock { $0.entityTag } }
        set {
            self.say { settings in
                settings.entityTag = newValue
                settings.saysEntityTag = true
            }
        }
    }

    /// Gives the value to those who wait, and stores nothing.
    public func skipCaching() { self.say { $0.isSkipped = true } }

    /// Says that the present value is still right: it is fresh again from now on.
    ///
    /// What the loader said before stays said. Of the rest, the entry keeps what it has: its entity tag; its tags, together
    /// with those of the call's options; and the life it was given (time to live with its jitter, and stale times), whatever
    /// the call's options say, unless nobody knows it any more: an entry of the shared tier that was expired by hand lives by
    /// the call's options. Whoever sets ``options`` says all of the life, and tags if they differ. What is said afterwards
    /// counts too: to add tags to those of the entry, insert them into ``tags`` then.
    ///
    /// - Returns: That value, for the loader to return.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when there is none.
    public func notModified() throws -> Value {
        guard let stale = self.stale else {
            throw CacheError(.invalidArgument, "there is no present value that could be unmodified")
        }
        self.say { $0.keep(stale) }
        return stale.value
    }

    /// Ends the time for saying something.
    func close() -> Settings {
        self.settings.withLock { settings in
            settings.isOver = true
            // That of the present value is in its life.
            if settings.keepsLife { settings.options.jitter = 0 }
            return settings
        }
    }
}

/// How an entry was to live when it was stored, in nanoseconds; `Int64.max` for ever.
struct LifeTerm: Sendable, Hashable {
    /// How long it was to be fresh.
    let fresh: Int64
    /// How long after that it was to be given at once.
    let revalidates: Int64
    /// How long after that it was to be there.
    let keeps: Int64
}

extension CacheOptions {
    /// Has an entry live as another one did.
    fileprivate mutating func take(_ term: LifeTerm) {
        guard term.fresh != .max else {
            (self.timeToLive, self.refreshAhead) = (nil, .never)
            (self.staleWhileRevalidate, self.staleIfError) = (.zero, .zero)
            return
        }
        self.timeToLive = .nanoseconds(term.fresh)
        self.staleWhileRevalidate = .nanoseconds(term.revalidates)
        self.staleIfError = .nanoseconds(term.keeps)
    }
}
