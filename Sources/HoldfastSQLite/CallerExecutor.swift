// SPDX-License-Identifier: Apache-2.0

/// Runs tasks on the store's own thread, between its transactions.
///
/// A command and its reply then change threads twice less, which is most of what a lone command takes.
final class CallerExecutor: TaskExecutor {
    private let commands: CommandQueue<Connection.Command>

    init(_ commands: CommandQueue<Connection.Command>) { self.commands = commands }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.commands.submit(.task { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) })
    }
}
