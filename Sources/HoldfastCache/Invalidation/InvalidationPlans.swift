// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Something that is to be forgotten later, and can be kept after all.
///
/// Lost with the process, and with the service that would have done it: what must be forgotten whatever happens needs a time
/// to live. Letting go of this value cancels nothing.
public final class ScheduledInvalidation: Sendable {
    private let pending: @Sendable () -> Bool
    private let withdraw: @Sendable () -> Bool

    init(isPending: @escaping @Sendable () -> Bool, cancel: @escaping @Sendable () -> Bool) {
        self.pending = isPending
        self.withdraw = cancel
    }

    /// Whether it has neither begun nor been cancelled, nor was done together with an earlier one.
    public var isPending: Bool { self.pending() }

    /// Takes it back; others for the same keys stay.
    ///
    /// - Returns: Whether it was still pending.
    @discardableResult
    public func cancel() -> Bool { self.withdraw() }
}

/// What is to be invalidated later, by scope: a pure value.
///
/// Each plan counts by itself until one of its scope is due; that one is done for all of them.
struct InvalidationAgenda<Scope: Hashable & Sendable>: Sendable {
    private var scopes: [UInt64: Scope] = [:]
    private var plans: [Scope: Set<UInt64>] = [:]
    private var last: UInt64 = 0

    /// Nothing is planned.
    init() {}

    /// Adds a plan.
    ///
    /// - Returns: Which, or `nil` when there are too many.
    mutating func add(_ scope: Scope) -> UInt64? {
        guard self.scopes.count < CacheLimits.maximumScheduled else { return nil }
        self.last += 1
        self.scopes[self.last] = scope
        self.plans[scope, default: []].insert(self.last)
        return self.last
    }

    /// Whether a plan is there.
    func contains(_ plan: UInt64) -> Bool { self.scopes[plan] != nil }

    /// Takes a plan back.
    ///
    /// - Returns: Whether it was there.
    mutating func cancel(_ plan: UInt64) -> Bool {
        guard let scope = self.scopes.removeValue(forKey: plan) else { return false }
        self.plans[scope]?.remove(plan)
        if self.plans[scope]?.isEmpty == true { self.plans[scope] = nil }
        return true
    }

    /// A plan is due: all of its scope are done with it.
    ///
    /// - Returns: All of them, or `nil` when it is not there any more.
    mutating func take(_ plan: UInt64) -> Set<UInt64>? {
        guard let scope = self.scopes[plan], let all = self.plans.removeValue(forKey: scope) else { return nil }
        for one in all { self.scopes[one] = nil }
        return all
    }
}

/// The planned invalidations of one cache.
final class InvalidationPlans<Key: Hashable & Sendable>: Sendable {
    /// What a plan is about.
    enum Scope: Hashable, Sendable {
        case key(Key)
        case tag(String)
        case prefix(String)
        case all
    }

    private struct State {
        var agenda = InvalidationAgenda<Scope>()
        var alarms: [UInt64: CacheTimers.ID] = [:]
    }

    private let state = Mutex(State())

    /// Plans something.
    ///
    /// - Parameters:
    ///   - scope: What it is about.
    ///   - delay: When.
    ///   - service: Whose timers and tasks are used.
    ///   - action: Does it.
    /// - Returns: What takes it back.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func plan(
        _ scope: Scope,
        after delay: Duration,
        in service: CacheService,
        _ action: @escaping @Sendable () async -> Void
    ) throws(CacheError) -> ScheduledInvalidation {
        guard delay >= .zero else { throw CacheError(.invalidArgument, "an invalidation is after zero or more time") }
        guard let plan = self.state.withLock({ $0.agenda.add(scope) }) else {
            throw CacheError(
                .invalidArgument,
                "at most \(CacheLimits.maximumScheduled) invalidations of a cache can be scheduled at once"
            )
        }
        let alarm = service.timers.schedule(at: service.clock.now.after(delay)) { [weak self, weak service] in
            guard let self, let service, let others = self.take(plan) else { return }
            for other in others { service.timers.cancel(other) }
            service.perform(action)
        }
        let isDone = self.state.withLock { state in
            guard state.agenda.contains(plan) else { return true }
            state.alarms[plan] = alarm
            return false
        }
        if isDone { service.timers.cancel(alarm) }
        return ScheduledInvalidation { [weak self] in
            self?.state.withLock { $0.agenda.contains(plan) } ?? false
        } cancel: { [weak self, weak service] in
            guard let self, let service, self.state.withLock({ $0.agenda.cancel(plan) }) else { return false }
            if let alarm = self.state.withLock({ $0.alarms.removeValue(forKey: plan) }) {
                service.timers.cancel(alarm)
            }
            return true
        }
    }

    /// Takes all plans that are done with one, and gives the alarms of the others.
    private func take(_ plan: UInt64) -> [CacheTimers.ID]? {
        self.state.withLock { state in
            guard let all = state.agenda.take(plan) else { return nil }
            return all.compactMap { state.alarms.removeValue(forKey: $0) }
        }
    }
}

extension CacheService {
    /// Does something in a task of the service, if it still runs.
    func perform(_ work: @escaping Job) { self.jobs.input.yield(work) }
}
