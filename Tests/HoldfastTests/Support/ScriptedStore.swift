// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization

/// A memory store whose calls a test can count, delay and replace.
final class ScriptedStore: LockStore {
    struct Script {
        /// Runs before the call reaches the store; throwing makes the call fail without effect.
        var beforeAcquire: (@Sendable (LockRequest) async throws -> Void)?
        /// Runs after the call had its effect; throwing loses the reply.
        var afterAcquire: (@Sendable (LockRequest) async throws -> Void)?
        var beforeRenew: (@Sendable ([Renewal]) async throws -> Void)?
        var afterRenew: (@Sendable ([Renewal]) async throws -> Void)?
        var beforeRelease: (@Sendable (GrantKey) async throws -> Void)?
        /// Changes what somebody who looks for deadlocks is told.
        var rewriteWaits: (@Sendable (OwnerID, [ResourceStatus]) -> [ResourceStatus])?
        var losesSignals = false
        /// Whether withdrawals and looks fail too.
        var isCutOff = false
        var calls: [String: Int] = [:]
    }

    let base: MemoryStore
    let script = Mutex(Script())
    private let handlers = Mutex<[@Sendable (StoreSignal) -> Void]>([])

    init(clock: any LeaseClock) { self.base = MemoryStore(clock: clock) }

    /// Another way to the same locks.
    init(sharing other: ScriptedStore) { self.base = other.base }

    /// Cuts this way off: nothing gets through in either direction, until the test joins it again.
    func cutOff() {
        self.script.withLock { script in
            let fail: @Sendable () throws -> Void = { throw LockError(.storeUnavailable, "cut off") }
            script.beforeAcquire = { _ in try fail() }
            script.beforeRenew = { _ in try fail() }
            script.beforeRelease = { _ in try fail() }
            script.losesSignals = true
            script.isCutOff = true
        }
    }

    /// Joins it again.
    func join() {
        self.script.withLock { script in
            (script.beforeAcquire, script.beforeRenew, script.beforeRelease) = (nil, nil, nil)
            (script.losesSignals, script.isCutOff) = (false, false)
        }
    }

    private func checkReached() throws {
        if self.script.withLock({ $0.isCutOff }) { throw LockError(.storeUnavailable, "cut off") }
    }

    var capabilities: StoreCapabilities { self.base.capabilities }

    func count(_ call: String) -> Int { self.script.withLock { $0.calls[call] ?? 0 } }

    /// Says that signals may have been lost.
    func interrupt() { self.tell(.interrupted) }

    /// Says something of its own to whoever listens.
    func tell(_ signal: StoreSignal) {
        for handler in self.handlers.withLock({ $0 }) { handler(signal) }
    }

    private func note(_ call: String) -> Script {
        self.script.withLock { script in
            script.calls[call, default: 0] += 1
            return script
        }
    }

    func acquire(_ request: LockRequest) async throws -> AcquireReply {
        let script = self.note("acquire")
        try await script.beforeAcquire?(request)
        let reply = try await self.base.acquire(request)
        try await script.afterAcquire?(request)
        return reply
    }

    func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        let script = self.note("renew")
        try await script.beforeRenew?(renewals)
        let replies = await self.base.renew(renewals)
        try await script.afterRenew?(renewals)
        return replies
    }

    func release(_ grant: GrantKey) async throws -> ReleaseReply {
        let script = self.note("release")
        try await script.beforeRelease?(grant)
        return await self.base.release(grant)
    }

    func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        _ = self.note("withdraw")
        try self.checkReached()
        return await self.base.withdraw(request)
    }

    func convert(_ conversion: Conversion) async throws -> ConvertReply {
        _ = self.note("convert")
        return await self.base.convert(conversion)
    }

    func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        let script = self.note("waits")
        let found = await self.base.waits(of: owner, for: resource)
        return script.rewriteWaits?(owner, found) ?? found
    }

    func revoke(_ resource: Resource) async throws -> RevokeReply { await self.base.revoke(resource) }
    func forceRelease(_ resource: Resource) async throws -> [Holder] { await self.base.forceRelease(resource) }
    func status(of resource: Resource) async throws -> ResourceStatus {
        _ = self.note("status")
        try self.checkReached()
        return await self.base.status(of: resource)
    }

    func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        await self.base.survey(pattern, after: cursor)
    }

    func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        self.handlers.withLock { $0.append(handler) }
        return self.base.subscribe { [weak self] signal in
            if self?.script.withLock({ $0.losesSignals }) != true { handler(signal) }
        }
    }

    func run() async throws { try await self.base.run() }
}
