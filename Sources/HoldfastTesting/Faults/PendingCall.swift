// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A call that waits for the first of its replies or its deadline.
final class PendingCall<Reply: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Reply, any Error>?>

    init(_ continuation: CheckedContinuation<Reply, any Error>) { self.continuation = Mutex(continuation) }

    /// Ends the call, unless it ended before.
    func finish(_ result: Result<Reply, any Error>) {
        let continuation = self.continuation.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }
        continuation?.resume(with: result)
    }
}
