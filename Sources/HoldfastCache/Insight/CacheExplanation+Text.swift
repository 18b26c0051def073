// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension CacheExplanation: CustomStringConvertible {
    /// Some lines for people: what a read gets, then why.
    public var description: String {
        let name = self.key.map { "\(self.cache)/\($0)" } ?? self.cache
        var lines = ["\(name): \(self.verdict.rawValue): \(self.verdict.sentence)"]
        if let entry = self.entry {
            lines.append("memory: \(entry)")
        } else if self.history.isEmpty {
            let reason = self.historyIsComplete ? "it was never there" : "it was never there, or that was long ago"
            lines.append("memory: nothing; \(reason)")
        } else {
            lines.append("memory: nothing")
        }
        lines += self.history.prefix(Self.shownIncidents).map { "before: \($0)" }
        if let failure = self.failure {
            lines.append("failure: \(failure.error), remembered for another \(failure.remaining.brief)")
        }
        if let load = self.load {
            let callers = load.callers == 1 ? "1 caller waits" : "\(load.callers) callers wait"
            lines.append(
                "load: under way for \(load.since.brief), \(load.isDetached ? "in the background, " : "")\(callers)"
            )
        }
        if let load = self.lastLoad { lines.append("last load: \(load)") }
        if self.abandonedLoads > 0 { lines.append("load: \(self.abandonedLoads) given up and still running") }
        if let obstacle = self.obstacle { lines.append("no load can begin: \(obstacle.sentence)") }
        if let tier = self.tier { lines.append("tier \(tier.name): \(tier)") }
        if let lock = self.lock { lines.append("lock \(lock.resource): \(lock)") }
        return lines.joined(separator: "\n")
    }

    /// How many incidents a text names.
    private static var shownIncidents: Int { 5 }
}

extension CacheExplanation.Verdict {
    fileprivate var sentence: String {
        switch self {
        case .hit: "a read gets what is in memory"
        case .refreshing: "a read gets what is in memory, and has it loaded anew in the background"
        case .revalidating: "a read gets what has expired, and has it loaded anew in the background"
        case .resting: "a read gets what has expired; no load begins for a moment"
        case .stale: "a read loads; what has expired is given when that fails"
        case .suspect: "a read asks the tier first, since news of others may be missing"
        case .failing: "a read gets the error of the last load"
        case .absent: "a read looks further: the tier, then the loader"
        }
    }
}

extension CacheExplanation.Obstacle {
    fileprivate var sentence: String {
        switch self {
        case .notRunning: "nobody runs the cache service"
        case .loads: "too many loads are under way"
        case .abandonedLoads: "too many loaders were given up and still run"
        }
    }
}

extension CacheExplanation.Incident: CustomStringConvertible {
    /// What became of the key, for people.
    public var description: String {
        let what =
            switch self.cause {
            case .expired: "expired"
            case .evicted: "evicted for want of room"
            case .removed: "removed"
            case .changedElsewhere: "changed or removed by another process"
            case .invalidatedByTag: "invalidated by a tag"
            case .invalidatedByPrefix: "invalidated by a prefix"
            case .invalidatedByAll: "invalidated with everything"
            case .loadFailed: "a load failed"
            case .loadAbandoned: "a load was given up"
            case .loadSuperseded: "loaded, but not stored: it was changed or invalidated meanwhile"
            case .notStored: "loaded, but not stored: the loader or the options said so"
            }
        return "\(what) \(self.ago.brief) ago\(self.detail.map { " (\($0))" } ?? "")"
    }
}

extension CacheExplanation.PastLoad: CustomStringConvertible {
    /// Who led the load, for people.
    public var description: String {
        let end = "\(self.ago.brief) ago"
        switch self.leader {
        case .throughTier:
            return "\(end), taken from the tier: another process led it, or this one earlier"
        case .thisProcess(let owner, let token):
            let name = owner.map { " as \($0)" } ?? " without a lock"
            let number = token.map { ", token \($0.rawValue)" } ?? ""
            return "\(end), led by this process\(name)\(number), took \(self.took.brief)"
        }
    }
}

extension CacheExplanation.Entry: CustomStringConvertible {
    /// What is in memory, for people.
    public var description: String {
        var parts = [self.isNegative ? "that there is nothing" : "a value"]
        parts[0] += " from \(self.origin == .set ? "a set" : "the \(self.origin.rawValue)"), version \(self.version)"
        parts.append("\(self.age.brief) old")
        parts.append(Life.text(freshFor: self.freshFor))
        if let kept = self.keptFor, kept != self.freshFor { parts.append("kept for \(kept.brief)") }
        if self.restsFor > .zero { parts.append("no load begins for \(self.restsFor.brief)") }
        if self.weight != 1 { parts.append("weighs \(self.weight)") }
        if !self.tags.isEmpty { parts.append("tags \(self.tags.joined(separator: " "))") }
        if let tag = self.entityTag { parts.append("entity tag \(tag)") }
        return parts.joined(separator: ", ")
    }
}

extension CacheExplanation.Tier: CustomStringConvertible {
    /// What the tier has, for people.
    public var description: String {
        switch self.standing {
        case .absent: return "nothing"
        case .unshareable: return "the key is too long to be shared"
        case .unavailable(let error): return "it does not answer: \(error)"
        case .removed: return "removed, version \(self.version), \(self.age.brief) ago"
        default: break
        }
        let writer = self.writer.map { " by \($0)" } ?? ""
        var parts = ["version \(self.version), written \(self.age.brief) ago\(writer), \(self.size) bytes"]
        switch self.standing {
        case .unreadable(let reason): parts.append("not usable: \(reason)")
        case .invalidated(.tag(let tag)): parts.append("not usable: the tag \(tag) was invalidated")
        case .invalidated(.prefix(let prefix)):
            parts.append("not usable: keys that start with \(prefix) were invalidated")
        case .invalidated(.all): parts.append("not usable: everything was invalidated")
        default: parts.append(Life.text(freshFor: self.freshFor))
        }
        if let codec = self.codec { parts.append("codec \(codec)") }
        if self.isNegative { parts.append("says that there is nothing") }
        if let time = self.loadTime { parts.append("took \(time.brief) to load") }
        if !self.tags.isEmpty { parts.append("tags \(self.tags.joined(separator: " "))") }
        if let tag = self.entityTag { parts.append("entity tag \(tag)") }
        return parts.joined(separator: ", ")
    }
}

extension CacheExplanation.Lock: CustomStringConvertible {
    /// Who loads, for people.
    public var description: String {
        if let error = self.error { return "not known: \(error)" }
        guard !self.holders.isEmpty else { return "free" }
        let names = self.holders.map { holder in
            holder.heldFor.map { "\(holder.name) for \($0.brief)" } ?? holder.name
        }
        return "held by \(names.joined(separator: ", "))" + (self.waiters > 0 ? ", \(self.waiters) waiting" : "")
    }
}

/// Lengths of life, for people.
private enum Life {
    static func text(freshFor: Duration?) -> String {
        guard let left = freshFor else { return "fresh for ever" }
        return left > .zero ? "fresh for \(left.brief)" : "expired \((.zero - left).brief) ago"
    }
}
