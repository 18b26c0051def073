// SPDX-License-Identifier: Apache-2.0

#if Logging && Metrics && Tracing
import Holdfast
import HoldfastCore
import HoldfastTesting
import InMemoryLogging
import InMemoryTracing
import Logging
import Metrics
import MetricsTestKit
import Testing
import Tracing

@Suite("Logs, metrics and traces", .timeLimit(.minutes(5)))
struct ObserverTests {
    private func play(_ observer: any LockObserver) throws {
        try Simulation(seed: 1).run(for: .seconds(600)) { simulation in
            let locks = try LockService(
                store: MemoryStore(clock: simulation.clock),
                observer: ObserverGroup([observer]),
                clock: simulation.clock,
                generator: simulation.makeGenerator()
            )
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await locks.run() }
                try await locks.withLock("a", label: "job") { _ in
                    try await simulation.clock.sleep(for: .seconds(40))
                    #expect(try await locks.tryAcquire("b", mode: .shared) != nil)
                    _ = try await locks.revoke("a")
                }
                try? await locks.withLock("a") { _ in _ = try await locks.forceRelease("a") }
                let held = try await locks.acquire("a")
                _ = try? await locks.acquire("a", waitingAtMost: .seconds(1))
                await held.release()
                group.cancelAll()
            }
        }
    }

    @Test("Logs name the resource and the owner, warn of losses, and never hold a secret")
    func logging() throws {
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in handler }
        logger.logLevel = .trace
        try self.play(LoggingObserver(logger: logger))
        let entries = handler.entries
        #expect(entries.contains { $0.level == .warning && "\($0.message)".contains("lost") })
        #expect(entries.contains { $0.level == .info && "\($0.message)".contains("let go") })
        #expect(entries.contains { $0.level == .warning && "\($0.message)".contains("without release") })
        #expect(entries.contains { $0.metadata[LockNames.lockOutcome] == "timeout" })
        for entry in entries {
            let text = "\(entry.message) \(entry.metadata)"
            #expect(text.firstMatch(of: /[0-9a-f]{32}/) == nil)
        }
    }

    @Test("Metrics count by store, mode and outcome, never by resource")
    func metrics() throws {
        let factory = TestMetrics()
        try self.play(MetricsObserver(store: "memory", factory: factory))
        let free = try factory.expectCounter(
            LockNames.acquisitionsTotal,
            [("store", "memory"), ("mode", "exclusive"), ("outcome", "free")]
        )
        #expect(free.totalValue == 3)
        let timeouts = try factory.expectCounter(
            LockNames.acquisitionsTotal,
            [("store", "memory"), ("mode", "exclusive"), ("outcome", "timeout")]
        )
        #expect(timeouts.totalValue == 1)
        let losses = try factory.expectCounter(LockNames.lossesTotal, [("store", "memory"), ("reason", "forced")])
        #expect(losses.totalValue == 1)
        let held = try factory.expectTimer(LockNames.heldSeconds, [("store", "memory"), ("mode", "exclusive")])
        #expect(held.values.first.map { $0 >= 40_000_000_000 } == true)
        #expect(!factory.counters.contains { counter in counter.dimensions.contains { $0.1 == "a" || $0.1 == "b" } })
    }

    @Test("Spans cover the wait and the hold, under the caller's span")
    func tracing() throws {
        let tracer = InMemoryTracer()
        try self.play(TracingObserver(tracer: tracer))
        let spans = tracer.finishedSpans
        let holds = spans.filter { $0.operationName == LockNames.holdSpan }
        #expect(holds.count == 3)
        #expect(spans.count { $0.operationName == LockNames.acquireSpan } == 5)
        let first = try #require(holds.first)
        let length = first.endInstant.nanosecondsSinceEpoch - first.startInstant.nanosecondsSinceEpoch
        #expect(length >= 40_000_000_000)
    }
}
#endif
