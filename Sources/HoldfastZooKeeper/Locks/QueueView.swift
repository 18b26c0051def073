// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Who holds a lock and who waits, as the names of its node's children say it: pure.
///
/// The children in the order of their numbers are the queue. The longest run from the front in which each fits those
/// before it holds. A list may be old, but never older than the lister's own node: then it shows nodes that are gone,
/// never too few of those before its own.
///
/// A holder in update mode that wants to be exclusive puts an *upgrade* node in the place of its own. Whoever behind it
/// was granted before go on holding, and it waits for them: those are the ones whose nodes are older than the
/// upgrade node. A reader that is older, but was not granted before it saw the upgrade node, steps back to the end of
/// the queue, since the upgrade waits for it (``upgrade(before:)``).
package struct QueueView: Sendable {
    /// What a request's place means.
    package enum Verdict: Sendable, Equatable {
        case granted
        /// - position: How many requests stand before this one.
        /// - watch: One of these nodes has to go before this request can be granted.
        case blocked(position: Int, watch: [Int])
    }

    /// The contenders in the order of the queue.
    package let contenders: [LockName]
    /// A node of a lock of another layout, if there is one.
    package let stranger: String?
    /// How the contenders are named.
    package let layout: ZooKeeperConfiguration.Layout

    /// Reads a list of children, in any order.
    package init(_ children: [String], _ layout: ZooKeeperConfiguration.Layout) {
        var contenders: [LockName] = []
        var stranger: String?
        for child in children {
            switch LockName.read(child, as: layout) {
            case .contender(let name): contenders.append(name)
            case .stranger: stranger = child
            case .junk: break
            }
        }
        // During a replacement both nodes are never seen; equal numbers do not happen.
        if contenders.count > 1 { contenders.sort { $0.isBefore($1) } }
        self.contenders = contenders
        self.stranger = stranger
        self.layout = layout
    }

    /// Reads a list of children for an operator: by the layout that its nodes have, where none has the one that is
    /// expected.
    package init(of children: [String], expecting layout: ZooKeeperConfiguration.Layout) {
        self.init(children, layout)
        guard self.contenders.isEmpty, self.stranger != nil else { return }
        let others = ZooKeeperConfiguration.Layout.allCases.lazy.filter { $0 != layout }.map { Self(children, $0) }
        if let found = others.first(where: { !$0.contenders.isEmpty }) { self = found }
    }

    /// Where a node is.
    package func index(of name: String) -> Int? { self.contenders.firstIndex { $0.text == name } }

    /// Who holds, by the names alone.
    ///
    /// - Parameter created: The transactions that created the nodes, as far as they are known: without them, readers
    ///   that hold behind an upgrade node count as waiting.
    /// - Returns: The places of the holders; an upgrade node is always among them.
    package func holders(created: [String: Int64] = [:]) -> [Int] {
        var holders: [Int] = []
        var modes: [LockMode] = []
        var isBlocked = false
        var upgrade: Int64?
        for (index, contender) in self.contenders.enumerated() {
            switch contender.standing {
            case .held:
                holders.append(index)
                modes.append(contender.mode)
            case .upgrade:
                holders.append(index)
                upgrade = created[contender.text] ?? .min
                // While others hold, it holds as what it was.
                modes.append(contender.mode)
            case .queued:
                guard !isBlocked, contender.mode.isCompatible(with: modes) else {
                    isBlocked = true
                    continue
                }
                if let upgrade, created[contender.text] ?? .max > upgrade {
                    isBlocked = true
                    continue
                }
                holders.append(index)
                modes.append(contender.mode)
            }
        }
        return holders
    }

    /// What the place of a queued request means.
    package func verdict(at index: Int) -> Verdict {
        var modes: [LockMode] = []
        var isBlocked = false
        var waiting = 0
        for contender in self.contenders[..<index] {
            switch contender.standing {
            case .held: modes.append(contender.mode)
            // Its holder holds something, and lets nobody in.
            case .upgrade: isBlocked = true
            case .queued:
                if !isBlocked, contender.mode.isCompatible(with: modes) {
                    modes.append(contender.mode)
                } else {
                    isBlocked = true
                    waiting += 1
                }
            }
        }
        let mine = self.contenders[index].mode
        if !isBlocked, mine.isCompatible(with: modes) { return .granted }
        return .blocked(position: waiting, watch: self.watches(at: index, mine))
    }

    /// How many places before a request are looked at for what this store can tell by itself.
    private static let maximumAhead = 64

    /// The places that have to be empty before a reader or writer can be granted, if only plain readers and writers are
    /// before it: they never take new tokens, and a queue of them can only become shorter.
    package func ahead(of index: Int) -> [Int]? {
        let mine = self.contenders[index].mode
        guard index <= Self.maximumAhead, mine == .exclusive || mine == .shared else { return nil }
        let before = self.contenders[..<index]
        guard before.allSatisfy({ $0.standing == .queued && ($0.mode == .exclusive || $0.mode == .shared) }) else {
            return nil
        }
        return before.indices.filter { mine == .exclusive || before[$0].mode == .exclusive }
    }

    /// The places to read in order to name the holders: whoever may be one.
    package var possibleHolders: [Int] {
        let holders = self.holders()
        guard let upgrade = holders.first(where: { self.contenders[$0].standing == .upgrade }) else { return holders }
        return Set(holders + self.olderCandidates(behind: upgrade)).sorted()
    }

    /// The mode in which a holder holds.
    package func mode(of index: Int, among holders: [Int]) -> LockMode {
        guard self.contenders[index].standing == .upgrade else { return self.contenders[index].mode }
        return holders.count == 1 ? .exclusive : self.contenders[index].mode
    }

    /// Whether a newcomer would be granted.
    package func admits(_ mode: LockMode) -> Bool {
        let last = self.contenders.last?.sequence ?? -1
        let newcomer = LockName(text: "", guid: "", mode: mode, standing: .queued, sequence: last &+ 1)
        return QueueView(self.contenders + [newcomer], as: self.layout).verdict(at: self.contenders.count) == .granted
    }

    /// The same queue without some nodes.
    package func without(_ isGone: (String) -> Bool) -> QueueView {
        guard self.contenders.contains(where: { isGone($0.text) }) else { return self }
        return QueueView(self.contenders.filter { !isGone($0.text) }, as: self.layout)
    }

    private init(_ contenders: [LockName], as layout: ZooKeeperConfiguration.Layout) {
        self.contenders = contenders
        self.stranger = nil
        self.layout = layout
    }

    /// The nodes of which one has to go first; as few as are enough, so that a release wakes as few as can be.
    private func watches(at index: Int, _ mine: LockMode) -> [Int] {
        let before = self.contenders[..<index].indices
        switch mine {
        case .exclusive: return Array(before.suffix(1))
        case .shared:
            let blocking = before.last { Self.stops(self.contenders[$0], readers: true) }
            if let blocking { return [blocking] }
            // Of several in update mode all but one wait, and any of them may give up.
            return Array(before.filter { self.contenders[$0].mode == .update }.suffix(2))
        case .update:
            return before.last { Self.stops(self.contenders[$0], readers: false) }.map { [$0] }
                ?? Array(before.suffix(1))
        case .permit(of: let count):
            let other = before.last { !self.contenders[$0].mode.isPermit || self.contenders[$0].standing == .upgrade }
            if let other { return [other] }
            return Array(before.suffix(count))
        }
    }

    private static func stops(_ contender: LockName, readers: Bool) -> Bool {
        if contender.standing == .upgrade { return true }
        return switch contender.mode {
        case .exclusive, .permit: true
        case .update: !readers
        case .shared: false
        }
    }

    /// Who, besides it, holds when a node is an upgrade node: those before it, those that say so, and readers behind it
    /// that are older.
    ///
    /// - Parameters:
    ///   - index: The upgrade node, or a node that is about to become one.
    ///   - created: The transactions that created the nodes; one behind it whose age is not known counts as older.
    /// - Returns: The places.
    package func others(besides index: Int, created: [String: Int64]) -> [Int] {
        let own = created[self.contenders[index].text] ?? .max
        let behind = self.olderCandidates(behind: index).filter { created[self.contenders[$0].text] ?? .min < own }
        let held = self.contenders.indices.filter { $0 > index && self.contenders[$0].standing != .queued }
        return Array(0..<index) + (behind + held).sorted()
    }

    /// The queued nodes behind an upgrade node that may have been granted before it came.
    package func olderCandidates(behind index: Int) -> [Int] {
        var result: [Int] = []
        // Whoever is before it holds too.
        var modes = self.contenders[...index].map(\.mode)
        for other in self.contenders.indices.dropFirst(index + 1) {
            let contender = self.contenders[other]
            guard contender.standing == .queued else { continue }
            guard contender.mode.isCompatible(with: modes) else { break }
            modes.append(contender.mode)
            result.append(other)
        }
        return result
    }

    /// The upgrade node that a queued request, which fits what that node's holder had, would wait for, if any.
    package func upgrade(before index: Int) -> Int? {
        let mine = self.contenders[index].mode
        return self.contenders[..<index].lastIndex { $0.standing == .upgrade && mine.isCompatible(with: [$0.mode]) }
    }

    /// How many wait before a place, when it is known who holds.
    package func position(of index: Int, holders: [Int]) -> Int {
        let holders = Set(holders)
        return self.contenders[..<index].indices.count { !holders.contains($0) }
    }
}
