// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// One caller who waits for a reply.
///
/// A `CheckedContinuation` costs an allocation for each command. What makes the unchecked one safe is the ledger: it
/// holds each ticket once, and the one place that takes a ticket out resumes it.
@safe struct CommandTicket: Sendable {
    private let continuation: UnsafeContinuation<Result<RedisReply, LockError>, Never>

    init(_ continuation: UnsafeContinuation<Result<RedisReply, LockError>, Never>) {
        unsafe self.continuation = continuation
    }

    func resume(_ outcome: Result<RedisReply, LockError>) { unsafe self.continuation.resume(returning: outcome) }
}
