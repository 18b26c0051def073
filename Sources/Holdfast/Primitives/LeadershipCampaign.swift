// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The terms of one candidate, one after the other.
///
/// ```swift
/// for try await term in election.campaign() {
///     await lead(term)            // until `term.ended()`, or as long as it likes
/// }
/// ```
///
/// To ask for the next term ends the one before: it is resigned if it still goes on, and the candidate goes to the end of
/// the queue. So the body of the loop is the term. Whoever leaves the loop early resigns first, or the term goes on until
/// its handle is gone and its lease is over.
///
/// A store that does not answer does not end the campaign; the candidate stands again. When the task is cancelled, the
/// term is resigned, the place in the queue is given up, and the sequence ends; when the service stops, it throws
/// ``LockError/Code/notRunning``.
public struct LeadershipCampaign: AsyncSequence, Sendable {
    /// What the candidate gets.
    public typealias Element = LeadershipTerm

    /// How long a candidate rests after the store did not answer for as long as the service's outage limit.
    public static let pauseAfterOutage: Duration = .seconds(1)

    private let clock: any LeaseClock
    private let stand: @Sendable () async throws -> LeadershipTerm

    init(clock: any LeaseClock, _ stand: @escaping @Sendable () async throws -> LeadershipTerm) {
        self.clock = clock
        self.stand = stand
    }

    /// Starts a candidate.
    public func makeAsyncIterator() -> Iterator { Iterator(campaign: self) }

    /// Stands for election again and again.
    public struct Iterator: AsyncIteratorProtocol {
        private let campaign: LeadershipCampaign
        private var term: LeadershipTerm?

        init(campaign: LeadershipCampaign) { self.campaign = campaign }

        /// Ends the term before, and waits for the next.
        ///
        /// - Returns: The term, or `nil` when the task is cancelled.
        /// - Throws: ``LockError`` when the store refuses or the service has stopped.
        public mutating func next() async throws -> LeadershipTerm? {
            await self.term?.resign()
            self.term = nil
            while !Task.isCancelled {
                do {
                    self.term = try await self.campaign.stand()
                    return self.term
                } catch is CancellationError {
                    return nil
                } catch let error as LockError where error.code == .storeUnavailable {
                    try? await self.campaign.clock.sleep(
                        until: self.campaign.clock.now.advanced(by: LeadershipCampaign.pauseAfterOutage),
                        tolerance: nil
                    )
                }
            }
            return nil
        }
    }
}
