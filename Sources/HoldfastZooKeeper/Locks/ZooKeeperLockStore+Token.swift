// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Fencing tokens above what was given before.
///
/// The transaction that created a node is its request's token, since whoever waits behind it came later. That ends with
/// an upgrade: its token has to be above those of the readers it waited for, and then those who queued up before have
/// older transactions. So whoever upgrades writes to the lock's own node, and the transaction of that is the token; and
/// whoever is granted and finds that the lock's node was written after its own was created, does the same. The write
/// changes nothing but the node's version.
extension ZooKeeperLockStore {
    /// A call that failed.
    struct Failure: Error {
        let code: ServerCode
    }

    /// Takes a token above all that were given for a lock.
    ///
    /// Two round trips.
    func newToken(
        _ parent: String,
        _ wire: Wire,
        _ done: @escaping @Sendable (Result<FencingToken, Failure>) -> Void
    ) {
        let terms = wire.terms { found in
            guard found.code == .ok, let stat = found.stat else { return done(.failure(Failure(code: found.code))) }
            let terms = wire.terms { written in
                switch written.code {
                case .ok:
                    let token = written.stat?.modified ?? 0
                    self.book.withLock { $0.noteTaken(token) }
                    done(.success(FencingToken(rawValue: UInt64(clamping: token))))
                // Somebody else was quicker; its token is below the one that comes.
                case .badVersion: self.newToken(parent, wire, done)
                default: done(.failure(Failure(code: written.code)))
                }
            }
            wire.link.handle.set(parent, found.data, version: stat.version, terms)
        }
        wire.link.handle.get(parent, terms)
    }

    /// Takes a token above all that were given for a lock.
    @concurrent
    func newToken(_ parent: String, _ wire: Wire) async throws -> FencingToken {
        let result = await withCheckedContinuation { continuation in
            self.newToken(parent, wire) { continuation.resume(returning: $0) }
        }
        switch result {
        case .success(let token): return token
        case .failure(let failure): throw failure.code.error("take a token at \(parent)", at: self.place)
        }
    }
}
