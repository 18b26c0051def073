// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// How a lock service works.
public struct LockServiceConfiguration: Sendable {
    /// The lease of a lock that does not name its own.
    ///
    /// Renewed automatically, so it bounds how long a dead holder blocks others, not how long a living one may work.
    /// 100 ms to 24 h; 30 s by default.
    public var lease: Duration = .seconds(30)
    /// When within a lease to renew, and how long before its end work is stopped.
    public var timeline = LeaseTimeline.Policy()
    /// How long a waiter that was handed a lock has to take it.
    ///
    /// A dead waiter costs the queue at most this; a waiter on a machine so busy that it needs longer loses its turn. 1
    /// s by default.
    public var acceptance: Duration = Limits.defaultAcceptance
    /// How long an acquire waits for `run()` to start.
    ///
    /// It then throws ``LockError/Code/notRunning``. 10 s by default: services of a group start in any order. One whose
    /// wait limit is shorter waits as long as that, but for 1 s at least, or this limit if that is less. Tries that
    /// have no wait limit wait as long as this.
    public var startupLimit: Duration = .seconds(10)
    /// How long a waiting acquire lives with a store that does not answer.
    ///
    /// It then throws ``LockError/Code/storeUnavailable``. 5 s by default: longer than a server's restart.
    public var outageLimit: Duration = .seconds(5)
    /// Whether an owner that holds a resource gets it again at once, without the store.
    ///
    /// On by default; only through the task-local owner of a scoped lock or `Lease.within(_:)`, never by thread or
    /// task.
    public var isReentrant = true
    /// What to do about deadlocks: by default, to end one after 200 ms of waiting.
    public var deadlocks = DeadlockPolicy.detect(after: .milliseconds(200))
    /// The owner that this service acts for, when work that holds locks elsewhere has started it.
    ///
    /// `holdfast run` passes it on to the commands that it starts. `nil` for owners of its own.
    public var inherited: InheritedOwner?
    /// The name of the program in owner descriptions, or `nil` for that of the executable.
    public var program: String?

    /// Makes a configuration with the defaults.
    public init() {}

    /// Checks the numbers.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument``.
    func validate() throws(LockError) {
        guard self.timeline.marginFraction > 0, self.timeline.marginFraction <= 0.5 else {
            throw LockError(.invalidArgument, "the margin must be above 0 and at most 0.5 of the lease")
        }
        // Of the shortest lease, 3 % go to the drift allowance; the answer to a renewal needs room as well.
        guard self.timeline.renewalFraction >= 0.01,
            self.timeline.renewalFraction + self.timeline.marginFraction <= 0.9
        else {
            throw LockError(
                .invalidArgument,
                "renewals must come after 0.01 of the lease and, with the margin, within 0.9 of it"
            )
        }
        guard self.acceptance > .zero, self.acceptance <= Limits.maximumLease else {
            throw LockError(.invalidArgument, "acceptance must be above zero and no longer than the longest lease")
        }
        if let delay = self.deadlocks.delay, delay <= .zero || delay > Limits.maximumLease {
            throw LockError(.invalidArgument, "deadlocks must be looked for after more than zero and at most a day")
        }
        let limits = Duration.zero...Limits.maximumLease
        guard limits.contains(self.startupLimit), limits.contains(self.outageLimit) else {
            throw LockError(.invalidArgument, "the limits for start and outages must be from zero to a day")
        }
    }
}
