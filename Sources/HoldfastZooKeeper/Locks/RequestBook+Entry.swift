// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What is known of a request.
extension RequestBook {
    /// A node of a request.
    struct Node: Sendable, Hashable {
        /// Its name below the lock's node.
        var name: LockName
        /// The transaction that created it.
        var created: Int64
    }

    /// How far a request is.
    enum Phase: Sendable {
        /// The node is being made.
        case creating
        /// Nobody knows whether the node was made.
        case unresolved
        /// The node is in the queue.
        case queued
        /// The node holds.
        case granted(Hold)
    }

    /// A grant.
    struct Hold: Sendable {
        var token: FencingToken
        var mode: LockMode
        @Moment private(set) var since: Instant
        @Moment var expires: Instant
        var isAccepted: Bool
        var revokeRequested = false
        /// A watch on its node, once it has been held for a moment.
        var watch: UInt?
        /// A wait to become exclusive.
        var upgrade: Upgrade?
        /// A node that takes the place of the known one, or has, or may have.
        var successor: LockName?
        /// Whether its node says that it waited, or need not.
        var isDated = false
        /// Whether what became of the successor will not be heard unless somebody asks.
        var isUnsettled = false
    }

    /// A wait to become exclusive.
    struct Upgrade: Sendable {
        let holding: [String]
        /// What a grant had before.
        let mode: LockMode
        /// A watch on another holder's node.
        var watch: UInt?
        /// Whether it is being found out who else holds.
        var isLooking = false
    }

    /// A rest between looks that fail, longer each time.
    struct Rest: Sendable {
        private static let (base, longest): (Duration, Duration) = (.milliseconds(100), .seconds(5))

        private var pause = Self.base
        /// When the next look may be.
        @Moment private(set) var end: Instant

        /// Begins the first.
        init(at now: Instant) { self.end = now.advanced(by: Self.base) }

        /// Begins the next.
        mutating func again(at now: Instant) {
            self.pause = min(self.pause * 2, Self.longest)
            self.end = now.advanced(by: self.pause)
        }
    }

    /// Whom a request waits for in a queue of plain readers and writers, who never change places.
    ///
    /// Whoever comes later stands behind it, so those can only become fewer; which of them this store's own have gone
    /// needs no reading.
    struct Ahead: Sendable {
        /// A request of this store.
        struct Place: Sendable {
            let id: RequestID
            let guid: String
        }

        /// Those of this store, in their order.
        var own: [Place]
        /// Whether there are no others.
        let isComplete: Bool
        /// The transaction of the last token that was taken for the lock without a node.
        let given: Int64
    }

    /// What never changes of a request; an object, since entries are copied more often than they are made.
    final class Origin: Sendable {
        let request: LockRequest
        let parent: String
        let guid: String
        let epoch: Int
        private let start: Moment
        private let end: Moment?

        var since: Instant { self.start.wrappedValue }
        var waitEnd: Instant? { self.end?.wrappedValue }

        init(request: LockRequest, parent: String, guid: String, epoch: Int, since: Instant, waitEnd: Instant?) {
            self.request = request
            self.parent = parent
            self.guid = guid
            self.epoch = epoch
            self.start = Moment(wrappedValue: since)
            self.end = waitEnd.map(Moment.init)
        }
    }

    /// One request.
    struct Entry: Sendable {
        private let origin: Origin
        var phase = Phase.creating
        var node: Node?
        /// Whether its place is being looked at.
        var isLooking = false
        /// Whether a watch fired while its place was being looked at.
        var hasMissed = false
        /// The request of this store that it waits for, which needs no watch: its node goes when we delete it.
        var waitsFor: RequestID?
        /// Who was before it when the queue was last read, if all can be told by this store.
        var ahead: Ahead?
        /// How long nobody looks at its place, since looks fail and will not soon go well.
        var rest: Rest?
        /// Whether its node is known to be gone.
        var isCleared = false
        /// A watch on its own node, which becomes the grant's: asked for when it begins to wait behind
        /// another request of this store.
        var ownWatch: UInt?
        /// Whether the server has set that watch, and the node so was there.
        var isSeen = false
        /// Who made room for it before that was known.
        var passing: Passing?
        /// Watches on nodes before it, and the names of those.
        var watches: [UInt] = []
        var watched: [String] = []
        /// The node that says for whom it waits, for finding deadlocks.
        var registration: String?

        init(request: LockRequest, parent: String, guid: String, epoch: Int, since: Instant, waitEnd: Instant?) {
            self.origin = Origin(
                request: request,
                parent: parent,
                guid: guid,
                epoch: epoch,
                since: since,
                waitEnd: waitEnd
            )
        }

        var request: LockRequest { self.origin.request }
        /// The lock's node.
        var parent: String { self.origin.parent }
        var guid: String { self.origin.guid }
        var epoch: Int { self.origin.epoch }
        var since: Instant { self.origin.since }
        var waitEnd: Instant? { self.origin.waitEnd }

        /// All watches.
        var allWatches: [UInt] {
            // Nearly always none.
            let (own, hold) = (self.ownWatch, self.hold)
            if self.watches.isEmpty, own == nil, hold?.watch == nil, hold?.upgrade == nil { return [] }
            return self.watches + [own, hold?.watch, hold?.upgrade?.watch].compactMap(\.self)
        }

        /// The whole path of the node.
        var path: String? { self.node.map { LockPath.child($0.name.text, of: self.parent) } }

        /// Notes that it waits for the node of another request of this store, unless it holds.
        mutating func wait(for other: RequestID) -> Bool {
            guard self.hold == nil else { return false }
            self.phase = .queued
            self.waitsFor = other
            self.watches = []
            return true
        }

        /// Notes that it holds: for its lease once it is accepted, for the acceptance time until then.
        mutating func hold(_ token: FencingToken, isAccepted: Bool) {
            let now = Instant.now
            self.phase = .granted(
                Hold(
                    token: token,
                    mode: self.request.mode,
                    since: now,
                    expires: now.advanced(by: isAccepted ? self.request.lease : self.request.acceptance),
                    isAccepted: isAccepted,
                    watch: self.ownWatch
                )
            )
            self.ownWatch = nil
            self.passing = nil
        }

        /// Notes that a look has failed, and that the next will not go better soon.
        mutating func restLonger() {
            let now = Instant.now
            if self.rest == nil { self.rest = Rest(at: now) } else { self.rest?.again(at: now) }
        }

        /// Whether nobody rests from looking at its place.
        func isRested(at now: Instant) -> Bool { self.rest.map { $0.end <= now } ?? true }

        /// When something of it is due, if nothing changes.
        var nextLook: Instant {
            switch self.phase {
            case .creating: .now.advanced(by: .seconds(3600))
            case .unresolved, .queued:
                // One without a watch is looked at again and again.
                min(
                    self.waitEnd ?? .now.advanced(by: .seconds(3600)),
                    self.watches.isEmpty && self.waitsFor == nil
                        ? self.rest?.end ?? .now : .now.advanced(by: .seconds(3600))
                )
            case .granted(let hold):
                hold.watch == nil || hold.upgrade.map { $0.watch == nil } == true ? self.since : hold.expires
            }
        }

        /// What a server would say of its node.
        var reply: CallReply {
            guard let node = self.node else { return CallReply(code: .noNode) }
            let stat = NodeStat(created: node.created, modified: 0, createdAt: 0, session: 0, version: 0, children: 0)
            return CallReply(code: .ok, stat: stat)
        }

        var hold: Hold? {
            get { if case .granted(let hold) = self.phase { hold } else { nil } }
            set { if let newValue { self.phase = .granted(newValue) } }
        }
    }

    /// A request of this store whose node is gone, for those that waited for it.
    struct Passing: Sendable {
        let id: RequestID
        /// Its token, if it held alone: nobody but those waiting behind it came after it.
        let aloneWith: FencingToken?

        init(_ entry: Entry) {
            self.id = entry.request.id
            self.aloneWith = entry.hold.flatMap { $0.mode == .exclusive && $0.upgrade == nil ? $0.token : nil }
        }
    }
}
