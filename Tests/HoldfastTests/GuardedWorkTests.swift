// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing

@testable import Holdfast

/// Work that is cancelled from another thread than its own.
@Suite(.timeLimit(.minutes(5)))
struct GuardedWorkTests {
    /// A thread that tells of losses.
    private final class Keeper: Sendable {
        private let next = Mutex<GuardedWork?>(nil)
        private let isOver = Atomic<Bool>(false)

        init() {
            Thread.detachNewThread { [self] in
                while !self.isOver.load(ordering: .relaxed) {
                    self.next.withLock { next in
                        defer { next = nil }
                        return next
                    }?.leaseWasLost()
                }
            }
        }

        func lose(_ work: GuardedWork) { self.next.withLock { $0 = work } }
        func stop() { self.isOver.store(true, ordering: .relaxed) }
    }

    /// Takes memory where a task was.
    private static func fill(_ value: Int) async -> Int {
        async let one = value
        await Task.yield()
        return await one
    }

    @Test
    func `a keeper that goes on late after a loss does not write into what took the place of the task`() async throws {
        let keepers = (0..<4).map { _ in Keeper() }
        defer { for keeper in keepers { keeper.stop() } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for keeper in keepers {
                group.addTask {
                    for turn in 0..<60 {
                        let guarded = GuardedWork { usleep(300) }
                        async let result = guarded.run {
                            let hasBegun = Mutex(false)
                            await withTaskCancellationHandler {
                                keeper.lose(guarded)
                                while !hasBegun.withLock({ $0 }) { await Task.yield() }
                            } onCancel: {
                                hasBegun.withLock { $0 = true }
                                // Long enough for the work to end meanwhile.
                                usleep(100)
                            }
                            return turn
                        }
                        let returned = try await result
                        #expect(returned == turn)
                        #expect(await Self.fill(turn) == turn)
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
