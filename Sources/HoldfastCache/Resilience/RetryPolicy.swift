// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How often a call of a shared tier is made again when it fails for want of the tier.
///
/// The first repetition comes at once: what fails quickly is most often a connection that the next call opens anew. Further
/// ones come after pauses at random. Each counts for the same call: its caller's cancellation and the deadline of its load
/// end it too, and the breaker counts the call and not its repetitions. While the breaker tries whether the tier works
/// again, nothing is repeated.
public struct RetryPolicy: Sendable, Hashable {
    /// How often a read is repeated.
    ///
    /// 1 by default.
    public var reads = 1
    /// How often a removal or an invalidation is repeated; done twice, it is as if it was done once, later.
    ///
    /// 1 by default.
    public var removals = 1
    /// How often a write is repeated.
    ///
    /// 0 by default: the reply of a write may be lost, and its copy is then refused, or overwrites what came between. The
    /// Redis tier repeats its own writes where it can tell its first copy.
    public var writes = 0
    /// The shortest pause.
    public var shortestPause: Duration = .milliseconds(10)
    /// The longest pause.
    public var longestPause: Duration = .milliseconds(200)
    /// How long after its beginning a call is still repeated: one that ran into a timeout is not.
    ///
    /// 250 ms by default.
    public var within: Duration = .milliseconds(250)

    /// Nothing is repeated.
    public static let never: RetryPolicy = {
        var policy = RetryPolicy()
        (policy.reads, policy.removals) = (0, 0)
        return policy
    }()

    /// The most repetitions: beyond, a breaker does more.
    private static let most = 10

    /// Makes a policy with the defaults.
    public init() {}

    /// Checks the numbers.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func validate() throws(CacheError) {
        for count in [self.reads, self.removals, self.writes] where !(0...Self.most).contains(count) {
            throw CacheError(.invalidArgument, "a call is repeated 0 to \(Self.most) times")
        }
        guard self.shortestPause > .zero, self.longestPause >= self.shortestPause, self.within >= .zero else {
            throw CacheError(
                .invalidArgument,
                "pauses between calls must be above zero, the longest not below the shortest"
            )
        }
    }

    /// How often a call of a kind is repeated.
    func repetitions(of call: TierCall) -> Int {
        switch call {
        case .read: self.reads
        case .removal: self.removals
        case .write: self.writes
        }
    }
}

/// What a call of a tier does.
enum TierCall: Sendable {
    case read, write, removal

    /// Under what it is measured.
    var step: CacheStep { self == .read ? .tierRead : .tierWrite }
}
