// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// One command about locks: how it is written and what its reply means.
///
/// A value, so that the same command can be awaited on one server and be put to several at once.
struct LockCommand<Reply: Sendable>: Sendable {
    /// Whether it may be sent again when it is not known what became of it.
    var isRepeatable = true
    /// Writes it.
    ///
    /// The flag says whether the server is believed to know the script by its hash.
    let encode: @Sendable (inout CommandEncoder, Bool) -> Void
    /// Reads its reply.
    let read: @Sendable (RedisClient.Answer) throws(LockError) -> Reply
}

extension RedisClient {
    /// Runs a command, through outages up to the configured time.
    func run<Reply>(_ command: LockCommand<Reply>) async throws(LockError) -> Reply {
        try command.read(try await self.send(isRepeatable: command.isRepeatable, command.encode))
    }

    /// Sends a command once, and says what came of it, on any thread.
    func run<Reply>(_ command: LockCommand<Reply>, _ done: @escaping @Sendable (Result<Reply, LockError>) -> Void) {
        self.submit(command.encode) { outcome in
            done(
                outcome.flatMap { reply in
                    Result { () throws(LockError) in try command.read(Answer(reply: reply, isRepeat: false)) }
                }
            )
        }
    }
}
