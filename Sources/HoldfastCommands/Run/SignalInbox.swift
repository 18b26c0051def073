// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Terminating signals that come while a command has no child yet to pass them on to.
package final class SignalInbox: Sendable {
    private let first = Mutex<Int32?>(nil)
    private let stream: AsyncStream<Int32>
    private let continuation: AsyncStream<Int32>.Continuation

    /// Takes signals from now on.
    package init(relay: SignalRelay = .shared) {
        // One is enough to end.
        (self.stream, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1))
        relay.handle { [self] number in
            guard SignalRelay.isTerminating(number) else { return }
            self.first.withLock { if $0 == nil { $0 = number } }
            self.continuation.yield(number)
        }
    }

    /// The first terminating signal that came, if one did.
    package var received: Int32? { self.first.withLock { $0 } }

    /// Runs work and cancels it when a terminating signal comes.
    ///
    /// - Returns: What the work returns; it may have got through in spite of a signal, see ``received``.
    /// - Throws: What the work throws.
    package func cancelling<Result: Sendable>(
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask { try await work() }
            group.addTask {
                for await _ in self.stream { break }
                return nil
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
                group.cancelAll()  // the signal: the work still says how it ended
            }
            throw CancellationError()
        }
    }
}
