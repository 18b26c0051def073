// SPDX-License-Identifier: Apache-2.0

#if ServiceLifecycle
import Holdfast
import HoldfastCore
import HoldfastTesting
import Logging
import ServiceLifecycle
import Testing

@Suite("In a service group", .timeLimit(.minutes(5)))
struct ServiceGroupTests {
    /// A worker that holds a lock until it is told to end.
    private struct Worker: Service {
        let locks: LockService
        let log: Collector<String>
        let started: AsyncStream<Void>.Continuation

        func run() async throws {
            try await cancelWhenGracefulShutdown {
                try await self.locks.withLock("a") { lease in
                    self.started.yield()
                    try? await Task.sleep(for: .seconds(3600))
                    // The lock service ends after its users: the lease is still good here.
                    do {
                        try lease.checkValid()
                        self.log.append("valid to the end")
                    } catch { self.log.append("lost") }
                }
            }
        }
    }

    @Test("A graceful shutdown ends the users first, and every lock is given back")
    func shutdown() async throws {
        let store = MemoryStore()
        let locks = try LockService(store: store)
        let log = Collector<String>()
        let (started, continuation) = AsyncStream.makeStream(of: Void.self)
        let group = ServiceGroup(
            configuration: .init(
                services: [
                    .init(service: locks),
                    .init(service: Worker(locks: locks, log: log, started: continuation)),
                ],
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            )
        )
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            var iterator = started.makeAsyncIterator()
            _ = await iterator.next()
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        #expect(log.values == ["valid to the end"])
        #expect(await store.status(of: "a").isFree)
    }
}
#endif
