// SPDX-License-Identifier: Apache-2.0

/// Limits of the lock engine and their reasons.
public enum Limits {
    /// The shortest lease: below this, a scheduling delay of a busy machine looks like a dead holder.
    public static let minimumLease: Duration = .milliseconds(100)
    /// The longest lease: a forgotten one should not outlive the person who can explain it.
    public static let maximumLease: Duration = .seconds(24 * 60 * 60)
    /// The longest wait limit; one that is longer counts as this.
    ///
    /// Ten years are as good as for ever, and can be added to any instant.
    public static let maximumWait: Duration = .seconds(10 * 365 * 24 * 60 * 60)
    /// The longest lock delay, as in Consul.
    public static let maximumLockDelay: Duration = .seconds(60)
    /// How long a waiter that was handed the lock has to say that it is there, unless the request says otherwise.
    ///
    /// A dead waiter costs the queue at most this.
    public static let defaultAcceptance: Duration = .seconds(1)
    /// How much earlier a request stands in the queue for each step of its priority.
    public static let priorityHeadStart: Duration = .seconds(1)
    /// The priorities that a request may have: at the ends it stands 100 s earlier or later than it came.
    public static let priorities = -100...100
    /// How much later each waiter behind the first asks again when a holder's lease ends, so that they do not all ask at
    /// once; at most ``maximumCheckSpread`` in all.
    public static let checkSpread: Duration = .milliseconds(5)
    /// The most that a waiter's check is put off on account of its place in the queue.
    public static let maximumCheckSpread: Duration = .milliseconds(500)
    /// The most waiters for one resource in a store: more means that something is wrong, and each costs memory.
    public static let maximumWaiters = 10_000
    /// The most grants in one renewal call: about 5 ms of a Redis server's time.
    public static let maximumRenewalBatch = 1000
    /// The most resources in one page of a survey.
    public static let maximumSurveyPage = 1000
    /// How many ended requests a lock table remembers, against late copies of their acquires.
    public static let rememberedRequests = 4096
    /// The most resources that the search for a deadlock looks at: a longer chain is no accident of locking.
    public static let maximumWaitGraph = 1000
    /// The most grants that a waiting request names as held: they travel with it, and nesting is rarely deeper.
    public static let maximumHolding = 64
}
