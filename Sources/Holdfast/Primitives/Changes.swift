// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Something in a store as it changes: the present value first, and then each new one that a look shows.
///
/// One round trip for each look, and none while nobody asks for the next value. What changes and changes back between two
/// looks is not seen. A store that does not answer shows no change: the next value comes when it answers again, so an old
/// value says nothing about now. Ends when the reading task is cancelled.
public struct Changes<Element: Sendable & Equatable>: AsyncSequence, Sendable {
    /// How often to look, unless something else is said.
    public static var defaultInterval: Duration { .seconds(1) }
    /// How often one may look at most: each look is a round trip for every reader.
    public static var minimumInterval: Duration { .milliseconds(10) }

    private let interval: Duration
    private let clock: any LeaseClock
    private let look: @Sendable () async throws -> Element

    init(every interval: Duration, _ clock: any LeaseClock, _ look: @escaping @Sendable () async throws -> Element) {
        self.interval = interval
        self.clock = clock
        self.look = look
    }

    /// Makes sure that an interval is one to look at.
    static func check(_ interval: Duration) throws(LockError) {
        guard (Self.minimumInterval...Limits.maximumLease).contains(interval) else {
            throw LockError(.invalidArgument, "an interval between looks is 10 ms to 24 h, not \(interval.brief)")
        }
    }

    /// Starts from the present value.
    public func makeAsyncIterator() -> Iterator { Iterator(changes: self) }

    /// Looks again and again.
    public struct Iterator: AsyncIteratorProtocol {
        private let changes: Changes
        private var last: Element?
        private var lookedAt: ContinuousClock.Instant?

        init(changes: Changes) { self.changes = changes }

        /// Waits for the next value that differs from the last.
        ///
        /// - Returns: The value, or `nil` when the task is cancelled.
        /// - Throws: ``LockError`` when the store refuses or cannot be read; not when it does not answer.
        public mutating func next() async throws -> Element? {
            while !Task.isCancelled {
                if let lookedAt {
                    let due = lookedAt.advanced(by: self.changes.interval)
                    do { try await self.changes.clock.sleep(until: due, tolerance: nil) } catch { return nil }
                }
                self.lookedAt = self.changes.clock.now
                do {
                    let value = try await self.changes.look()
                    guard value != self.last else { continue }
                    self.last = value
                    return value
                } catch let error as LockError where error.code == .storeUnavailable {
                    continue
                }
            }
            return nil
        }
    }
}
