// SPDX-License-Identifier: Apache-2.0

/// Which changes are sent together: pure.
///
/// A server does for each request much the same work as for a transaction of many changes. So while several requests
/// are unanswered, changes gather until one of them is answered, and then go together; as long as there is little to
/// do, each goes at once. Deletes go before new nodes, and in transactions of their own: a parent that is missing fails
/// all new nodes of a transaction, which are sent again later, and a lock must not look taken by one who gave it back.
struct Outbox: Sendable {
    /// A change that was asked for.
    struct Change: Sendable {
        enum Kind: Sendable {
            case delete
            /// An ephemeral, sequential node; then the children of its parent are listed, which is answered by a number
            /// of its own.
            case create(data: [UInt8], parent: String, list: UInt)
        }

        /// By what its caller is answered.
        let number: UInt
        let path: String
        let kind: Kind

        /// The parent of a new node.
        var parent: String? { if case .create(_, let parent, _) = self.kind { parent } else { nil } }
        /// By what its caller gets the list.
        var list: UInt? { if case .create(_, _, let list) = self.kind { list } else { nil } }

        /// About how large it is.
        fileprivate var size: Int {
            if case .create(let data, _, _) = self.kind {
                self.path.utf8.count + data.count
            } else {
                self.path.utf8.count
            }
        }
    }

    /// What is sent next.
    enum Submission: Sendable {
        case alone(Change)
        case together([Change])
    }

    /// How many requests may be unanswered before changes gather: enough to keep a server busy.
    static let width = 4
    /// The most changes of one transaction, so that it is not the only thing that a server does for long.
    static let maximumTogether = 64
    /// The most bytes of one transaction; servers refuse 1 MiB.
    private static let maximumBytes = 256 * 1024
    /// A transaction with new nodes has three changes more, to learn its number: not worth it for fewer nodes.
    private static let minimumNodes = 3
    /// How many parents are remembered.
    private static let maximumParents = 10_000

    private var deletes: ArraySlice<Change> = []
    private var creates: ArraySlice<Change> = []
    /// Whether deletes were just sent, so that what was asked for after them can follow.
    private var hasOpened = false
    private var unanswered = 0
    /// Nodes that are there as far as is known: one that is missing would fail a whole transaction.
    private var parents: Set<String> = []

    /// Whether a change can be sent at once, without being taken; it then counts as sent.
    mutating func passes() -> Bool {
        guard self.unanswered < Self.width, self.deletes.isEmpty, self.creates.isEmpty else { return false }
        self.unanswered += 1
        return true
    }

    /// Takes a change.
    mutating func add(_ change: Change) {
        if change.parent == nil { self.deletes.append(change) } else { self.creates.append(change) }
    }

    /// What to send now.
    ///
    /// - Parameter isUrgent: Whether something is about to be sent that has to come after all that was asked for.
    /// - Returns: `nil` when nothing is left, or what is left can wait for an answer.
    mutating func next(isUrgent: Bool) -> Submission? {
        let isOpen = isUrgent || self.unanswered < Self.width
        if isOpen, !self.deletes.isEmpty {
            self.unanswered += 1
            self.hasOpened = true
            return Self.take(min(self.deletes.count, Self.maximumTogether), from: &self.deletes)
        }
        defer { self.hasOpened = false }
        guard isOpen || self.hasOpened else { return nil }
        guard !self.creates.isEmpty else { return nil }
        self.unanswered += 1
        let count = self.fitting
        return Self.take(count < Self.minimumNodes ? 1 : count, from: &self.creates)
    }

    private static func take(_ count: Int, from queue: inout ArraySlice<Change>) -> Submission? {
        guard count > 1 else { return queue.popFirst().map { .alone($0) } }
        defer { queue.removeFirst(count) }
        return .together(Array(queue.prefix(count)))
    }

    /// How many of the first new nodes fit into one transaction.
    ///
    /// The number of a transaction is the fencing token of the nodes it makes, so it makes one for each lock at most.
    private var fitting: Int {
        var bytes = 0
        var made: Set<String> = []
        for change in self.creates.prefix(Self.maximumTogether) {
            bytes += change.size
            guard bytes <= Self.maximumBytes, let parent = change.parent, self.parents.contains(parent),
                made.insert(parent).inserted
            else { break }
        }
        return made.count
    }

    /// Notes that a request was answered, or will not be.
    ///
    /// - Parameter parent: A node that was found to be there.
    mutating func answered(_ parent: String? = nil) {
        self.unanswered -= 1
        guard let parent else { return }
        if self.parents.count >= Self.maximumParents { self.parents.removeAll(keepingCapacity: true) }
        self.parents.insert(parent)
    }

    /// Notes that a transaction was refused, and that each of its changes is sent alone.
    mutating func split(_ changes: [Change]) {
        self.unanswered += changes.count - 1
        for change in changes { if let parent = change.parent { self.parents.remove(parent) } }
    }
}
