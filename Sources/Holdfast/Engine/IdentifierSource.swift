// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Gives the ids of requests and the numbers of owners.
final class IdentifierSource: Sendable {
    private struct State {
        var generator: any RandomNumberGenerator & Sendable
        var serial: UInt64 = 0
    }

    private let state: Mutex<State>

    init(_ generator: any RandomNumberGenerator & Sendable) {
        self.state = Mutex(State(generator: generator))
    }

    func requestID() -> RequestID { self.requestID(withSerial: false).id }

    /// A number for an owner.
    func serial() -> UInt64 { self.requestID(withSerial: true).serial }

    /// - Returns: An id, and if asked for the number of a new owner.
    func requestID(withSerial: Bool) -> (id: RequestID, serial: UInt64) {
        self.state.withLock { state in
            if withSerial { state.serial += 1 }
            return (RequestID(high: state.generator.next(), low: state.generator.next()), state.serial)
        }
    }

    func word() -> UInt64 { self.state.withLock { $0.generator.next() } }

    /// A duration between zero and a bound, for spreading things.
    func jitter(upTo bound: Duration) -> Duration {
        guard bound > .zero else { return .zero }
        return .nanoseconds(Int64(self.word() >> 1) % (bound.nanoseconds + 1))
    }
}

/// The system's random source, read in blocks: one system call for 64 words instead of one for each.
public struct BlockRandomNumberGenerator: RandomNumberGenerator, Sendable {
    private static let blockSize = 64
    private var block: [UInt64] = []

    /// Makes a generator that has read nothing yet.
    public init() {}

    /// Takes the next word.
    public mutating func next() -> UInt64 {
        if let word = self.block.popLast() { return word }
        var system = SystemRandomNumberGenerator()
        self.block = SystemEntropy.words(Self.blockSize) ?? (0..<Self.blockSize).map { _ in system.next() }
        return self.block.popLast() ?? system.next()
    }
}
