// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

/// One command about locks: how it is written and what its reply means.
///
/// A value, so that the same command can be awaited on one server and be put to several at once.
package struct LockCommand<Reply: Sendable>: Sendable {
    /// Who it is for, on a cluster.
    let place: RedisClient.Place
    /// Whether it may be sent again when it is not known what became of it.
    var isRepeatable = true
    /// What is sent.
    package let request: RedisClient.Request
    /// Reads its reply.
    let read: @Sendable (RedisClient.Answer) throws(LockError) -> Reply

    init(
        place: RedisClient.Place,
        request: RedisClient.Request,
        read: @escaping @Sendable (RedisClient.Answer) throws(LockError) -> Reply
    ) {
        (self.place, self.request, self.read) = (place, request, read)
    }

    init(
        place: RedisClient.Place = .any,
        encode: @escaping @Sendable (inout CommandEncoder, Bool) -> Void,
        read: @escaping @Sendable (RedisClient.Answer) throws(LockError) -> Reply
    ) {
        self.init(place: place, request: .command(encode), read: read)
    }

    /// Whether an answer means something.
    package func understands(_ answer: RedisClient.Answer) -> Bool { (try? self.read(answer)) != nil }
}

extension RedisClient {
    /// Runs a command, through outages up to the configured time.
    func run<Reply>(_ command: LockCommand<Reply>) async throws(LockError) -> Reply {
        try command.read(try await self.send(to: command.place, isRepeatable: command.isRepeatable, command.request))
    }
}

extension CommandConnection {
    /// Sends a command once; a script that the server does not know, a second time.
    ///
    /// - Parameters:
    ///   - command: The command.
    ///   - deadline: When to give up.
    ///   - done: Called once with what came of it, on any thread.
    func run<Reply>(
        _ command: LockCommand<Reply>,
        by deadline: NIODeadline,
        _ done: @escaping @Sendable (Result<Reply, LockError>) -> Void
    ) {
        self.run(command, isKnown: true, by: deadline, done)
    }

    private func run<Reply>(
        _ command: LockCommand<Reply>,
        isKnown: Bool,
        by deadline: NIODeadline,
        _ done: @escaping @Sendable (Result<Reply, LockError>) -> Void
    ) {
        self.submit(by: deadline, command.request.once(isKnown: isKnown)) { outcome in
            guard case .success(.error(let line)) = outcome else {
                return done(
                    outcome.flatMap { reply in
                        Result { () throws(LockError) in
                            try command.read(RedisClient.Answer(reply: reply, isRepeat: false))
                        }
                    }
                )
            }
            let meaning = RedisErrorLine(line)
            if meaning.kind == "NOSCRIPT", isKnown { return self.run(command, isKnown: false, by: deadline, done) }
            if meaning.retry == .elsewhere { self.startAnew() }
            done(.failure(meaning.error))
        }
    }
}
