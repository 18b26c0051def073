// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// One caller who waits for a reply: a suspended task, or what is to be done with it.
///
/// A `CheckedContinuation` costs an allocation for each command. What makes the unchecked one safe is the ledger: it
/// holds each ticket once, and the one place that takes a ticket out resumes it.
@safe struct CommandTicket: Sendable {
    @safe private enum Caller: Sendable {
        case task(UnsafeContinuation<Result<RedisReply, LockError>, Never>)
        case handler(@Sendable (Result<RedisReply, LockError>) -> Void)
    }

    private let caller: Caller

    init(_ continuation: UnsafeContinuation<Result<RedisReply, LockError>, Never>) {
        unsafe self.caller = .task(continuation)
    }

    init(_ handler: @escaping @Sendable (Result<RedisReply, LockError>) -> Void) { self.caller = .handler(handler) }

    func resume(_ outcome: Result<RedisReply, LockError>) {
        switch self.caller {
        case .task(let continuation): unsafe continuation.resume(returning: outcome)
        case .handler(let handler): handler(outcome)
        }
    }
}
