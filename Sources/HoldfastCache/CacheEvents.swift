// SPDX-License-Identifier: Apache-2.0

/// What happened in a cache that is rarer than a hit.
public enum CacheEvent: Sendable {
    /// Why a caller got a value that is not fresh.
    public enum StaleReason: String, Sendable {
        /// It expired not long ago, and is loaded anew meanwhile.
        case revalidating
        /// Loading failed.
        case error
        /// Loading takes longer than the caller waits.
        case late
        /// Loading failed a moment ago.
        case resting
        /// There was no room for another load.
        case bulkhead
        /// The lock service does not work.
        case lockOutage
        /// Messages of others may have been lost, and the shared tier does not work.
        case tierOutage
    }

    /// A loader gave a value, or said that there is none.
    case loaded(cache: String, duration: Duration, isBackground: Bool)
    /// A loader threw.
    case loadFailed(cache: String, duration: Duration, error: any Error)
    /// A loader was given up; it may still run.
    case loadAbandoned(cache: String)
    /// A loaded value was not stored: it was invalidated meanwhile.
    case loadSuperseded(cache: String)
    /// A caller got a value that is not fresh.
    case staleServed(cache: String, reason: StaleReason)
    /// A load ran without the lock that should let one process load for all, or a write without that of writers.
    case unlockedFill(cache: String, error: any Error)
    /// The shared tier did not work for a read or a write.
    case tierFailed(cache: String, error: any Error)
    /// The shared tier is not asked for a while: it did not work several times in a row.
    case tierOutage(tier: String, error: any Error)
    /// The secondary of a ``FallbackTier`` took over.
    case tierFellBack(tier: String, error: any Error)
    /// The primary of a ``FallbackTier`` works again, and was told what changed meanwhile.
    case tierReturned(tier: String)
    /// The primary of a ``FallbackTier`` does not work yet, or could not be told what was changed in an outage: it is not used,
    /// or what it has from before is not believed. That is tried again after a pause.
    case tierReturnFailed(tier: String, error: any Error)
    /// What the shared tier has for a key is not an entry that this program can read: a miss.
    case unreadable(cache: String)
    /// A value was not written to the shared tier: it is too large, or its codec has no bytes for it.
    case unshared(cache: String)
    /// A scheduled invalidation did not reach the shared tier; this process has forgotten what it is about.
    case invalidationFailed(cache: String, error: any Error)
    /// A step of a load or a change took so long, whether it worked or not.
    case timed(cache: String, step: CacheStep, duration: Duration)
    /// A load was refused: too many are under way.
    case bulkheadFull(cache: String)
    /// A writer wrote changes to the source.
    case written(cache: String, count: Int, duration: Duration)
    /// A writer did not write changes; they are tried again, or parked.
    case writeFailed(cache: String, count: Int, error: any Error)
    /// A change became a dead letter.
    case writeParked(cache: String, attempts: Int, error: any Error)
    /// A change is tried again though it should be a dead letter: there are too many.
    case deadLettersFull(cache: String)
    /// The service stopped before all changes were written; with a journal the next run has them, without they are lost.
    case writesLeft(cache: String, count: Int, isJournaled: Bool)
    /// The end of a journal was a record that was never finished, and was cut off.
    case journalTorn(cache: String, bytes: Int)
    /// A journal has changes that this program cannot read; they stay there.
    case journalUnreadable(cache: String, count: Int)
    /// A journal could not be told that changes are written: the next run writes them once more.
    case journalFailed(cache: String, error: any Error)
    /// A journal could not be written anew without what does not count any more: it works, and grows until it can.
    case journalNotShortened(cache: String, error: any Error)
}

/// Is told what happens in caches.
public protocol CacheObserver: Sendable {
    /// Takes note of an event.
    ///
    /// Called on the thread where it happens, outside of all locks; must return soon.
    func observe(_ event: CacheEvent)

    /// Takes note of how a service does.
    ///
    /// Called every ``CacheServiceConfiguration/reportInterval`` while the service runs, and once when it ends; must return
    /// soon.
    func report(_ report: CacheReport)
}

extension CacheObserver {
    /// Does nothing.
    public func report(_ report: CacheReport) {}
}
