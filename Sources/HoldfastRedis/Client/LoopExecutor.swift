// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix

/// Runs tasks on the thread that also talks to the server, one of its own.
///
/// A command and its reply then change threads twice less. Whoever blocks that thread blocks the store's commands, but no
/// renewals, which go by another one.
final class LoopExecutor: TaskExecutor {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop: any EventLoop

    init() { self.loop = self.group.next() }

    deinit { self.group.shutdownGracefully { _ in } }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.loop.execute { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
