// SPDX-License-Identifier: Apache-2.0

/// The names of a cache's metrics: all in one place, and a promise.
///
/// No key is ever a dimension, since their number has no bound; groups are, see ``CacheConfiguration/group``.
public enum CacheNames {
    /// Counter of reads.
    ///
    /// Dimensions: ``cache``, ``result`` (`hit`, `negative`, `stale`, `miss`).
    public static let requestsTotal = "holdfast_cache_requests_total"
    /// Counter of reads that missed and joined a load that was under way.
    ///
    /// Dimensions: ``cache``.
    public static let joinsTotal = "holdfast_cache_joins_total"
    /// Counter of values that were given though not fresh.
    ///
    /// Dimensions: ``cache``, ``reason`` (`revalidating`, `error`, `late`, `resting`, `bulkhead`, `lockOutage`,
    /// `tierOutage`).
    public static let staleServesTotal = "holdfast_cache_stale_serves_total"
    /// Counter of loads.
    ///
    /// Dimensions: ``cache``, ``outcome`` (`loaded`, `failed`, `abandoned`, `superseded`; the last are among the loaded).
    public static let loadsTotal = "holdfast_cache_loads_total"
    /// Timer, seconds from the beginning of a load to its end, waiting for its turn and the tier included.
    ///
    /// Dimensions: ``cache``, ``outcome`` (`loaded`, `failed`).
    public static let loadSeconds = "holdfast_cache_load_seconds"
    /// Timer, seconds of the steps of loads and changes.
    ///
    /// Dimensions: ``cache``, ``step`` (`tierRead`, `tierWrite`, `lockWait`).
    public static let stepSeconds = "holdfast_cache_step_seconds"
    /// Counter of loads without the lock that they should have had.
    ///
    /// Dimensions: ``cache``.
    public static let unlockedFillsTotal = "holdfast_cache_unlocked_fills_total"
    /// Counter of loads that were refused since too many were under way.
    ///
    /// Dimensions: ``cache``.
    public static let bulkheadTotal = "holdfast_cache_bulkhead_refusals_total"
    /// Counter of looks into the shared tier.
    ///
    /// Dimensions: ``cache``, ``result`` (`hit`, `miss`, `failed`, `unreadable`; the last are among the misses).
    public static let tierRequestsTotal = "holdfast_cache_tier_requests_total"
    /// Counter of values that could not be written to the shared tier.
    ///
    /// Dimensions: ``cache``.
    public static let unsharedTotal = "holdfast_cache_unshared_total"
    /// Counter of scheduled invalidations that did not reach the shared tier.
    ///
    /// Dimensions: ``cache``.
    public static let invalidationFailuresTotal = "holdfast_cache_invalidation_failures_total"
    /// Counter of times that the shared tier was not asked any more for a while.
    ///
    /// Dimensions: ``tier``.
    public static let tierOutagesTotal = "holdfast_cache_tier_outages_total"
    /// Counter of times that a secondary tier took over.
    ///
    /// Dimensions: ``tier``.
    public static let tierFallbacksTotal = "holdfast_cache_tier_fallbacks_total"
    /// Counter of entries that left the memory.
    ///
    /// Dimensions: ``cache``, ``cause`` (`evicted`, `expired`, `invalidated`).
    public static let removalsTotal = "holdfast_cache_removals_total"
    /// Counter of reads by groups of keys.
    ///
    /// Dimensions: ``cache``, ``group``, ``result`` as of ``requestsTotal``.
    public static let groupRequestsTotal = "holdfast_cache_group_requests_total"
    /// Counter of loads by groups of keys.
    ///
    /// Dimensions: ``cache``, ``group``, ``outcome`` (`loaded`, `failed`).
    public static let groupLoadsTotal = "holdfast_cache_group_loads_total"
    /// Counter of changes that were to be written to the source.
    ///
    /// Dimensions: ``cache``, ``outcome`` (`written`, `failed`, which is tried again, `parked`).
    public static let writesTotal = "holdfast_cache_writes_total"
    /// Timer of the calls that wrote them.
    ///
    /// Dimensions: ``cache``.
    public static let writeSeconds = "holdfast_cache_write_seconds"
    /// Counter of times that a journal could not be written to, or not be written anew when it had grown.
    ///
    /// Dimensions: ``cache``.
    public static let journalFailuresTotal = "holdfast_cache_journal_failures_total"
    /// Gauge, keys with changes that are not written yet.
    ///
    /// Dimensions: ``cache``.
    public static let pendingWrites = "holdfast_cache_pending_writes"
    /// Gauge, changes that could not be written and wait for somebody.
    ///
    /// Dimensions: ``cache``.
    public static let deadLetters = "holdfast_cache_dead_letters"
    /// Gauge, entries in memory.
    ///
    /// Dimensions: ``cache``.
    public static let entries = "holdfast_cache_entries"
    /// Gauge, what they weigh.
    ///
    /// Dimensions: ``cache``.
    public static let weight = "holdfast_cache_weight"
    /// Gauge, loads under way in the service.
    public static let loadsUnderWay = "holdfast_cache_loads_under_way"
    /// Gauge, whether messages of other processes come: 1 or 0.
    public static let listening = "holdfast_cache_bus_listening"
    /// Gauge, whether a secondary tier is used: 1 or 0.
    public static let fallenBack = "holdfast_cache_tier_fallen_back"
    /// Gauge, whether a service is asked: 0 when all calls pass, 1 when none do, 0.5 when one tries.
    ///
    /// Dimensions: ``service`` (`tier`, `locks`).
    public static let circuit = "holdfast_cache_circuit_open"

    /// Dimension: the cache's name.
    public static let cache = "cache"
    /// Dimension: what a read found.
    public static let result = "result"
    /// Dimension: how a load ended.
    public static let outcome = "outcome"
    /// Dimension: why.
    public static let reason = "reason"
    /// Dimension: why an entry left.
    public static let cause = "cause"
    /// Dimension: what was waited for.
    public static let step = "step"
    /// Dimension: the group of keys.
    public static let group = "group"
    /// Dimension: the tier's name.
    public static let tier = "tier"
    /// Dimension: what stands behind a breaker.
    public static let service = "service"
}
