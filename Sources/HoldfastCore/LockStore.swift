// SPDX-License-Identifier: Apache-2.0

/// Where locks live: the one thing that a back end provides.
///
/// A store keeps the meaning of ``LockTable``: for the same commands at the same times it gives the same replies. The
/// contract suite of `HoldfastTesting` checks that.
///
/// Every call ends within the store's own command deadline and is **not** interrupted by the caller's cancellation: the
/// engine must learn what became of a request. A call that throws has an unknown outcome unless the error's code says
/// that nothing was sent. Every call may be sent again; none blocks the cooperative pool.
public protocol LockStore: Sendable {
    /// What the store can do.
    var capabilities: StoreCapabilities { get }

    /// Takes a lock, or a place in its queue; or, for an id that the store knows, says how it stands.
    ///
    /// For a grant that waits to be accepted this accepts it; for a grant that is held it renews the lease. One round
    /// trip.
    ///
    /// - Parameter request: The request.
    /// - Returns: How it stands.
    /// - Throws: ``LockError``; whether the request took effect is then unknown, and it should be withdrawn.
    func acquire(_ request: LockRequest) async throws -> AcquireReply

    /// Renews grants in as few round trips as the store has nodes.
    ///
    /// - Parameter renewals: At most ``Limits/maximumRenewalBatch`` grants.
    /// - Returns: An answer for each, in the same order.
    /// - Throws: ``LockError`` when all answers are unknown.
    func renew(_ renewals: [Renewal]) async throws -> [RenewReply]

    /// Gives a lock back and hands it to the next waiter in the same round trip.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: What became of it; never ``ReleaseReply/unknown``, which is for the engine.
    /// - Throws: ``LockError``; the lease then ends by itself unless the release took effect.
    func release(_ grant: GrantKey) async throws -> ReleaseReply

    /// Gives up a request wherever it is: in the queue, or granted meanwhile. One round trip.
    ///
    /// - Parameter request: The request.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the place in the queue then ends at its wait limit or its acceptance time.
    func withdraw(_ request: GrantKey) async throws -> WithdrawReply

    /// Changes the mode of a grant in place.
    ///
    /// One round trip. May be sent again, also to learn how a wait to become exclusive stands; asking for the present mode
    /// ends the wait. Whatever does not fit the other holders and cannot wait is answered with
    /// ``ConvertReply/busy(blockers:)``.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the mode is then unknown.
    func convert(_ conversion: Conversion) async throws -> ConvertReply

    /// Asks the holders of a resource to let go. Nothing is taken from them.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked.
    /// - Throws: ``LockError``.
    func revoke(_ resource: Resource) async throws -> RevokeReply

    /// Takes a resource from its holders, foreign ones included, and hands it to the next waiter. Holders of ours are
    /// told, and their later writes carry a token below the next one.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    /// - Throws: ``LockError``; whether it took effect is then unknown.
    func forceRelease(_ resource: Resource) async throws -> [Holder]

    /// Describes one resource.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters, empty when it is free.
    /// - Throws: ``LockError``.
    func status(of resource: Resource) async throws -> ResourceStatus

    /// Describes the resources that are not free, page by page.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended, or `nil` for the first.
    /// - Returns: A page.
    /// - Throws: ``LockError``.
    func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage

    /// Describes the resources that an owner's waiting requests hang on, for finding deadlocks: those it waits for, those
    /// that the owners in the way there wait for, and so on.
    ///
    /// Read in one step if the store can, and how long they have been waiting with it: all who look have to agree on who
    /// is younger. A store may know only of waits for which this was asked, or has been.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: ``LockError``.
    func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus]

    /// Tells servers apart: resources with the same number are kept by the same one, as far as is known now.
    ///
    /// Renewals of different servers are sent apart, so that one that does not answer holds up no others. Asks nobody.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: A number without a meaning of its own; 0 where there is one server, or none.
    func server(of resource: Resource) -> Int

    /// Registers a handler for signals. It is called on any thread, must not block, and gets signals for requests of
    /// other services of the same store object too.
    ///
    /// - Parameter handler: What to do with a signal.
    /// - Returns: A subscription that ends when it is cancelled.
    func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription

    /// Does the store's background work until cancelled: signals, reconnecting, watching for dead holders.
    ///
    /// Called once by each service that uses the store; may run several times at once.
    ///
    /// - Throws: ``LockError`` when the store cannot work at all, such as for a wrong password or a corrupt file.
    func run() async throws
}

extension LockStore {
    /// One server for all.
    public func server(of resource: Resource) -> Int { 0 }
}

/// A handler that is registered for signals.
public struct SignalSubscription: Sendable {
    private let onCancel: @Sendable () -> Void

    /// Makes a subscription.
    ///
    /// - Parameter onCancel: Removes the handler. Called any number of times.
    public init(onCancel: @escaping @Sendable () -> Void) { self.onCancel = onCancel }

    /// Removes the handler.
    ///
    /// A call that is under way may still end after this.
    public func cancel() { self.onCancel() }
}

/// What a store can do.
///
/// Asking for more is a clear error before anything is sent.
public struct StoreCapabilities: Sendable, Hashable, Codable {
    /// How far the store's locks reach.
    public enum Scope: String, Sendable, Hashable, Codable {
        /// One process.
        case process
        /// All processes of one machine.
        case machine
        /// Every machine that reaches the store.
        case network
    }

    /// A short name: `memory`, `sqlite`, `redis`.
    public var name: String
    /// How far its locks reach.
    public var scope: Scope
    /// The modes it grants.
    public var modes: Set<LockMode.Kind>
    /// Whether a grant can change its mode.
    public var converts: Bool
    /// Whether the store can say what a waiting request hangs on, so that deadlocks can be found.
    public var showsWaits: Bool
    /// Whether requests can wait in the store.
    public var queues: Bool
    /// Whether a resource can rest after its holder vanished.
    public var delaysAfterLoss: Bool
    /// Whether a request can stand before others that came earlier.
    public var prioritizes: Bool
    /// Whether a request may be passed and pass others.
    public var barges: Bool
    /// Whether a release makes the next waiter the holder.
    ///
    /// If not, those who wait are told and ask again, and whoever asks first gets the lock: nobody is promised a turn.
    public var handsOver: Bool
    /// For a store whose locks live as long as the session of the process that took them: how long a holder may believe
    /// in a lock without hearing from the store.
    ///
    /// A longer lease counts as this.
    ///
    /// Such a store ends an unrenewed lease while the process lives; when the process dies, the lock ends with its
    /// session, which may be later than its lease. A grant cannot be handed to another process. `nil` for stores with
    /// leases of their own.
    public var sessionLease: Duration?
    /// The shortest lease.
    public var minimumLease: Duration
    /// The longest lease.
    public var maximumLease: Duration

    /// Makes a description.
    ///
    /// - Parameters:
    ///   - name: A short name.
    ///   - scope: How far its locks reach.
    ///   - modes: The modes it grants.
    ///   - converts: Whether a grant can change its mode.
    ///   - showsWaits: Whether the store can say what a waiting request hangs on.
    ///   - queues: Whether requests can wait in the store.
    ///   - delaysAfterLoss: Whether a resource can rest after its holder vanished.
    ///   - prioritizes: Whether a request can stand before others that came earlier.
    ///   - barges: Whether a request may be passed and pass others.
    ///   - handsOver: Whether a release makes the next waiter the holder.
    ///   - sessionLease: How long a holder may believe in a lock that lives with its session.
    ///   - minimumLease: The shortest lease.
    ///   - maximumLease: The longest lease.
    public init(
        name: String,
        scope: Scope,
        modes: Set<LockMode.Kind>,
        converts: Bool = false,
        showsWaits: Bool = false,
        queues: Bool = true,
        delaysAfterLoss: Bool = true,
        prioritizes: Bool = true,
        barges: Bool = true,
        handsOver: Bool = true,
        sessionLease: Duration? = nil,
        minimumLease: Duration = Limits.minimumLease,
        maximumLease: Duration = Limits.maximumLease
    ) {
        self.name = name
        self.scope = scope
        self.modes = modes
        self.converts = converts
        self.showsWaits = showsWaits
        self.queues = queues
        self.delaysAfterLoss = delaysAfterLoss
        self.prioritizes = prioritizes
        self.barges = barges
        self.handsOver = handsOver
        self.sessionLease = sessionLease
        self.minimumLease = minimumLease
        self.maximumLease = maximumLease
    }

    /// Checks a request before anything is sent.
    ///
    /// - Parameter request: The request.
    /// - Throws: ``LockError`` with code ``LockError/Code/unsupported`` or ``LockError/Code/invalidArgument``.
    public func check(_ request: LockRequest) throws(LockError) {
        guard self.modes.contains(request.mode.kind) else {
            let known = self.modes.map(\.rawValue).sorted().joined(separator: ", ")
            throw LockError(
                .unsupported,
                "the \(self.name) store does not grant \(request.mode.kind.rawValue) locks, only \(known)"
            )
        }
        if case .permit(of: let count) = request.mode, count < 1 {
            throw LockError(.invalidArgument, "a semaphore needs at least 1 permit, not \(count)")
        }
        guard (self.minimumLease...self.maximumLease).contains(request.lease) else {
            throw LockError(
                .invalidArgument,
                "a lease of \(request.lease.brief) is outside \(self.minimumLease.brief) to \(self.maximumLease.brief)"
            )
        }
        guard (Duration.zero...Limits.maximumLockDelay).contains(request.lockDelay) else {
            throw LockError(
                .invalidArgument,
                "a lock delay of \(request.lockDelay.brief) is outside 0 to \(Limits.maximumLockDelay.brief)"
            )
        }
        guard Limits.priorities.contains(request.priority) else {
            throw LockError(.invalidArgument, "a priority of \(request.priority) is outside \(Limits.priorities)")
        }
        guard request.lockDelay == .zero || self.delaysAfterLoss else {
            throw LockError(.unsupported, "the \(self.name) store has no lock delay")
        }
        guard request.priority == 0 || self.prioritizes else {
            throw LockError(.unsupported, "the \(self.name) store has no priorities")
        }
        guard request.fairness == .fair || self.barges else {
            throw LockError(.unsupported, "the \(self.name) store is first come, first served: nobody may pass others")
        }
        guard request.contention == .fail || self.queues else {
            throw LockError(.unsupported, "the \(self.name) store has no queue")
        }
    }
}
