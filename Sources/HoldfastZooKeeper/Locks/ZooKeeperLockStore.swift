// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// Locks in a ZooKeeper ensemble (3.5 or later): a queue of ephemeral sequential nodes below the lock's own node.
///
/// The lock on `a/b` is the node `root/a/b`, named as Curator or kazoo names it
/// (``ZooKeeperConfiguration/Layout``), so that programs in other languages take turns with ours. Whoever releases
/// wakes the next waiter and nobody else. The fencing token is the transaction (`czxid`) that created the holder's
/// node; it is kept over a downgrade.
///
/// ZooKeeper has sessions, not leases. While this process lives, the store keeps the lease: it deletes the node of a
/// grant that is not renewed. When the process dies, or is cut off, the servers delete its nodes when the session's
/// timeout is over, which is when others can go on; so a holder believes in a lock for at most a part of the session
/// timeout after it asked (`capabilities.sessionLease`), however long its lease. The leader, which counts that timeout,
/// hears of a client behind another server only twice a tick; and one that is cut off from the others answers for up to
/// two ticks. So the part is what is left when half a tick and 15 % are taken off, or two ticks and 5 % if that is more,
/// and nothing is granted or renewed before it is sure that the leader counts from late enough: 5.5 s of 10 s with
/// servers of a usual tick (``ZooKeeperConfiguration/tick``). While nothing else is asked, the session asks the leader
/// for an answer each 4 % of its timeout.
///
/// The servers watch up to 700 KiB of paths for a session: with more, a lost connection could not be taken up again.
/// Who holds or waits beyond that is looked after without them: a grant when it is renewed, a waiter from time to time.
///
/// What it does not have: priorities, barging and lock delays (other clients on the same lock would not heed them);
/// grants that outlive their process; TLS, which Debian's client library lacks. With the layouts `curator-rw` and
/// `kazoo` there are only exclusive and shared locks, and of conversions only the downgrade. Servers are trusted: the
/// client library stops the process on some malformed answers. Ages of other processes' nodes are told by the servers'
/// wall clock, for people only.
///
/// One session for each ensemble and user is shared by all stores of the process.
public final class ZooKeeperLockStore: LockStore {
    typealias Instant = ContinuousClock.Instant

    /// How the ensemble is reached.
    public let configuration: ZooKeeperConfiguration

    let session: Session
    let book = Mutex(RequestBook())
    let handlers = SignalHandlers()
    let owners = OwnerCache()
    let guids = GUIDSource()
    let remover: Remover
    private let registration: Mutex<Int?> = Mutex(nil)

    /// Makes a store from a URL; nothing is sent yet.
    ///
    /// - Parameter url: As in ``ZooKeeperConfiguration/init(url:)``.
    /// - Throws: ``LockError`` when the URL cannot be read or asks for what this build has not.
    public convenience init(url: String) throws {
        try self.init(configuration: ZooKeeperConfiguration(url: url))
    }

    /// Makes a store; nothing is sent yet.
    ///
    /// - Parameter configuration: How the ensemble is reached.
    /// - Throws: ``LockError`` when a setting is out of its range.
    public init(configuration: ZooKeeperConfiguration) throws {
        try configuration.check()
        self.configuration = configuration
        self.session = SessionPool.session(for: configuration.sessionSettings)
        self.remover = Remover(timeout: configuration.timeout, layout: configuration.layout)
        self.capabilities = Self.capabilities(configuration)
        let key = self.session.listen { [weak self] event in
            self?.took(event)
            return self != nil
        }
        self.registration.withLock { $0 = key }
    }

    deinit {
        if let key = self.registration.withLock({ $0 }) { self.session.ignore(key) }
        // Others may keep the session, and with it the nodes.
        let link = self.session.link
        for entry in self.book.withLock({ $0.all }) {
            if let registration = entry.registration { self.remover.remove(registration, entry.epoch, link) }
            self.drop(watches: entry.allWatches)
            if let successor = entry.hold?.successor {
                self.remover.remove("\(entry.parent)/\(successor.text)", entry.epoch, link)
            }
            if let path = entry.path {
                self.remover.remove(path, entry.epoch, link)
            } else {
                self.remover.search(entry.parent, guid: entry.guid, entry.epoch, link)
            }
        }
        self.remover.finish(on: self.session)
    }

    /// Depends on the layout; never priorities, barging or lock delays.
    public let capabilities: StoreCapabilities

    private static func capabilities(_ configuration: ZooKeeperConfiguration) -> StoreCapabilities {
        StoreCapabilities(
            name: "zookeeper",
            scope: .network,
            modes: configuration.layout == .curator ? Set(LockMode.Kind.allCases) : [.exclusive, .shared],
            converts: true,
            showsWaits: true,
            delaysAfterLoss: false,
            prioritizes: false,
            barges: false,
            sessionLease: LeaderContact.belief(
                session: configuration.sessionTimeout,
                tick: configuration.slowestTick
            )
        )
    }

    /// Makes sure that a session outlives what is believed in for a lease that counts from an instant.
    ///
    /// - Throws: ``LockError`` when nobody knows by the deadline of the wire.
    func vouch(for lease: Duration, from start: Instant, _ wire: Wire) async throws {
        let end = start.advanced(by: self.capabilities.sessionLease.map { min(lease, $0) } ?? lease)
        guard !self.session.isKept(until: end, wire.link.epoch) else { return }
        guard await self.session.isKept(until: end, wire.link, waitingUntil: wire.deadline) else {
            throw LockError(
                .storeUnavailable,
                "ZooKeeper at \(self.place) does not show in time that it keeps the session"
            )
        }
    }

    /// See ``LockStore/subscribe(_:)``.
    ///
    /// The handler runs on threads of the client library and of the session's timer.
    ///
    /// - Parameter handler: What to do with a signal.
    /// - Returns: A subscription that ends when it is cancelled.
    public func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        self.handlers.add(handler)
    }

    /// Keeps the session until cancelled, and then waits for up to two seconds until what was released is gone.
    ///
    /// An ensemble that cannot be reached is tried again and again; what it refuses is thrown.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/storeRefused`` for a user or a session timeout that the servers
    ///   do not accept, whenever they say so.
    public func run() async throws {
        let (refusals, news) = AsyncStream<LockError>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let key = self.session.listen { event in
            if case .refused(let error) = event { news.yield(error) }
            return true
        }
        defer { self.session.ignore(key) }
        do {
            _ = try await self.session.ready(by: .now.advanced(by: self.configuration.timeout))
        } catch let error as LockError where error.code == .storeRefused {
            throw error
        } catch {
            // It may come up later; each call says for itself when it does not answer.
        }
        // Ends when the task is cancelled.
        for await refusal in refusals { throw refusal }
        await self.remover.drain(by: .now.advanced(by: Session.drainLimit))
    }

    /// Ends the session, and with it all locks of all stores that share it.
    ///
    /// Calls under way are waited for as long as is said; then they end with an error, each of them.
    ///
    /// - Parameter limit: How long to wait for calls under way.
    package func closeSession(draining limit: Duration) async { await self.session.close(draining: limit) }

    /// How many completions and watches the process still expects from the client library.
    package static var expectedCallbacks: Int { CallbackTable.shared.count }

    // MARK: - What all parts need

    /// A wire to the servers, by the deadline of a call.
    func wire() async throws -> Wire {
        let deadline = Instant.now.advanced(by: self.configuration.timeout)
        // Nearly always there; the other way suspends.
        if let link = self.session.link { return Wire(link: link, deadline: deadline) }
        return Wire(link: try await self.session.ready(by: deadline), deadline: deadline)
    }

    /// A wire if there is a connection of this session.
    func wire(ofEpoch epoch: Int) -> Wire? {
        guard let link = self.session.link, link.epoch == epoch else { return nil }
        return Wire(link: link, deadline: .now.advanced(by: self.configuration.timeout))
    }

    /// The servers, for messages.
    var place: String { self.configuration.servers.joined(separator: ",") }

    /// The node below which the locks are.
    var rootNode: String { self.configuration.root.isEmpty ? "/" : self.configuration.root }

    func path(of resource: Resource) -> String { LockPath.path(of: resource, below: self.configuration.root) }

    func view(_ children: [String]) -> QueueView { QueueView(children, self.configuration.layout) }

    /// The queue for an operator, who is shown other layouts too.
    func viewAsItIs(_ children: [String]) -> QueueView {
        QueueView(of: children, expecting: self.configuration.layout)
    }

    /// The error when a node's children belong to another layout.
    func stranger(_ child: String, at parent: String) -> LockError {
        LockError(
            .storeRefused,
            "\(parent) is in use by locks of another layout than \(self.configuration.layout.rawValue) (it has the child "
                + "\(child)), which would not exclude ours; use ?layout= with the other's, or another path"
        )
    }

    func drop(watches: [UInt]) { for watch in watches { CallbackTable.shared.removeWatch(watch) } }

    // MARK: - Events

    private func took(_ event: Session.Event) {
        switch event {
        case .connected(let link): self.remover.retry(link)
        case .doubted: self.handlers.emit(.doubted)
        case .ended(let epoch): self.ended(epoch)
        case .refused: break
        case .tick(let now): self.tick(now)
        }
    }

    /// A session is over: its nodes are gone, whoever holds is told, whoever waits asks anew.
    private func ended(_ epoch: Int) {
        self.remover.forget(epoch: epoch)
        let gone = self.book.withLock { $0.removeAll(ofEpoch: epoch) }
        for entry in gone {
            self.drop(watches: entry.allWatches)
            switch entry.phase {
            case .granted: self.handlers.emit(.lost(entry.request.id, .expired))
            case .creating, .unresolved, .queued:
                self.handlers.emit(.check(entry.request.id, after: .zero))
            }
        }
    }

    private func tick(_ now: Instant) {
        let due = self.book.withLock { $0.due(at: now) }
        for entry in due.over { self.clear(entry) }
        for id in due.unwatched { self.guardHold(id) }
        for id in due.unguarded { self.wake(id) }
        for id in due.unsettled { self.settleDoubt(about: id) }
        for id in due.upgrading { self.upgradeMoved(id) }
        if let link = self.session.link { self.remover.retry(link) }
    }

    /// Removes what is left of a request that was taken out of the book.
    func clear(_ entry: RequestBook.Entry) {
        self.drop(watches: entry.allWatches)
        let link = self.session.link
        if let registration = entry.registration { self.remover.remove(registration, entry.epoch, link) }
        if let successor = entry.hold?.successor {
            self.remover.remove("\(entry.parent)/\(successor.text)", entry.epoch, link)
        }
        guard !entry.isCleared else {
            return self.passed(entry, to: self.book.withLock { $0.takeDependents(of: entry.request.id) })
        }
        if let path = entry.path {
            let waiting = self.book.withLock { $0.leave(entry) }
            self.remover.remove(path, entry.epoch, link) { [weak self] isGone in
                guard let self else { return }
                let dependents = self.book.withLock { $0.left(entry, isGone: isGone) }
                // One that may not be deleted stays in the way until the session ends.
                isGone ? self.passed(entry, to: dependents) : dependents.forEach(self.wake)
            }
            waiting.forEach(self.prove)
        } else {
            // It may have been made, or may yet be: whatever has its GUID goes.
            self.remover.search(entry.parent, guid: entry.guid, entry.epoch, link)
        }
    }
}
