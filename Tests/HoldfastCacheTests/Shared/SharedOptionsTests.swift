// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

/// Options that one may think have nothing to do with each other, all with all.
@Suite("Options of a shared cache, in every combination", .timeLimit(.minutes(5)))
struct SharedOptionsTests {
    /// Why the lock cannot be had.
    enum Trouble: CaseIterable {
        /// The lock store does not answer.
        case isDown
        /// Another process has it, and does not come to an end.
        case isHeld
    }

    /// What a caller gets of an entry that has expired.
    private enum Outcome: Equatable {
        case old, new
        case error(CacheError.Code)
    }

    private static let resource = TierInspector.resource("k", in: "test")

    /// What the documentation of the options promises.
    private func expected(_ options: CacheOptions, _ trouble: Trouble) -> Outcome {
        if options.staleWhileRevalidate > .zero { return .old }
        if options.coordination == .process { return .new }
        let hasStale = options.staleIfError > .zero
        if hasStale, options.softDeadline != nil { return .old }
        if trouble == .isHeld { return hasStale ? .old : .error(.deadline) }
        switch options.lockOutage {
        case .proceedLocally: return .new
        case .serveStale: return hasStale ? .old : .new
        case .fail: return hasStale ? .old : .error(.lockUnavailable)
        }
    }

    private func outcome(_ node: Node, _ options: CacheOptions) async -> Outcome {
        do {
            return try await node.cache.value(for: "k", options: options) { "new" } == "old" ? .old : .new
        } catch {
            return .error((error as? CacheError)?.code ?? .undecodable)
        }
    }

    private func check(_ options: CacheOptions, _ trouble: Trouble) async throws {
        try await withNodes(2, options: options) { (shared, nodes) async throws in
            let first = try await nodes[0].cache.value(for: "k", options: options) { "old" }
            #expect(first == "old")
            // Halfway it is fresh, though it may be due to be loaded anew.
            shared.clock.advance(by: .milliseconds(4500))
            let half = await self.outcome(nodes[0], options)
            #expect(half == .old)
            let isDone = await eventually { nodes[0].caches.report().loads == 0 }
            #expect(isDone)
            shared.clock.advance(by: .seconds(11))
            var held: Lease?
            if trouble == .isHeld {
                held = try await nodes[1].locks.acquire(Self.resource, lease: .seconds(60))
            } else {
                nodes[0].store.setCutOff(true)
            }
            let calls = nodes[0].store.calls
            let caller = Task { await self.outcome(nodes[0], options) }
            if options.coordination == .distributed {
                // The lock was asked for, and then no more time passes than the caller has patience for.
                let isAsking = await eventually { nodes[0].store.calls > calls }
                #expect(isAsking)
                if let soft = options.softDeadline { shared.clock.advance(by: soft) }
            }
            let isFirst = options.softDeadline == nil || options.staleIfError == .zero
            let got = isFirst ? await ticking(shared.clock) { await caller.value } : await caller.value
            #expect(got == self.expected(options, trouble), "\(options)")
            nodes[0].store.setCutOff(false)
            if let held { _ = await ticking(shared.clock) { await held.release() } }
        }
    }

    @Test(
        "a lock that cannot be had never takes the place of a stale value that may be given (bentocache 103)",
        arguments: Trouble.allCases,
        [CacheOptions.LockOutage.proceedLocally, .serveStale, .fail]
    )
    func staleBeforeLocks(trouble: Trouble, outage: CacheOptions.LockOutage) async throws {
        var number = 0
        for (whileRevalidate, ifError) in [(0, 0), (0, 60), (60, 0), (60, 60)] {
            for refresh in [CacheOptions.RefreshAhead.never, .after(fraction: 0.5), .probabilistic(beta: 1)] {
                for soft in [Duration?.none, .milliseconds(100)] {
                    for coordination in [CacheOptions.Coordination.process, .distributed] {
                        number += 1
                        let options = tenSeconds.with {
                            $0.staleWhileRevalidate = .seconds(whileRevalidate)
                            $0.staleIfError = .seconds(ifError)
                            $0.refreshAhead = refresh
                            $0.softDeadline = soft
                            $0.hardDeadline = .seconds(2)
                            $0.lockOutage = outage
                            $0.coordination = coordination
                            // Each with each of the others, though not with all of them at once.
                            $0.abandonment = number.nonzeroBitCount % 2 == 0 ? .cancel : .finish
                        }
                        try await self.check(options, trouble)
                    }
                }
            }
        }
    }
}
