// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// The commands of operators.
extension LockTransaction {
    /// Asks the holders to let go.
    ///
    /// - Returns: The holders, and the store objects that listen for them.
    func revoke(_ resource: Resource) throws -> (holders: [Holder], channels: [String]) {
        let entry = try self.settled(resource.name)
        try self.run("UPDATE grants SET revoked = 1 WHERE resource = ?", [resource.name])
        for grant in entry.grants { self.signal(.revokeRequested(grant.id), to: grant.party) }
        return (entry.grants.map { $0.holder(at: self.now) }, entry.grants.map(\.party.channel))
    }

    func forceRelease(_ resource: Resource) throws -> [Holder] {
        var entry = try self.settled(resource.name)
        let grants = entry.grants
        entry.grants = []
        for grant in grants {
            try self.delete(grant, of: resource.name)
            try self.remember(grant.id)
            self.signal(.lost(grant.id, .forced), to: grant.party)
            if grant.isAccepted { try self.rest(&entry, from: self.now, for: grant.rest) }
        }
        try self.promote(&entry)
        return grants.map { $0.holder(at: self.now) }
    }

    /// Describes a resource without changing it; what is over, or belongs to a dead process, is left out.
    func status(of resource: Resource) throws -> ResourceStatus {
        let rest = try self.optionalInteger("SELECT until FROM rests WHERE resource = ?", [resource.name])
        let restUntil = rest.map { Timestamp(nanoseconds: $0) }
        let grants = try self.grants(of: resource.name)
            .filter { $0.expires > self.now && !$0.party.process.isDead }
        return ResourceStatus(
            resource: resource,
            holders: grants.map { $0.holder(at: self.now) },
            waiters: grants.compactMap { $0.upgrader(at: self.now) }
                + (try self.waiters(of: resource.name))
                .filter { $0.until > self.now && !$0.party.process.isDead }.map { $0.waiter(at: self.now) },
            restingFor: restUntil.flatMap { $0 > self.now ? self.now.duration(to: $0) : nil }
        )
    }

    /// Describes the resources that an owner's requests hang on.
    func reach(of owner: OwnerID) throws -> [ResourceStatus] {
        try WaitForGraph.reach(
            of: owner,
            waits: { owner throws(any Error) in try self.waits(of: owner) },
            status: { resource throws(any Error) in try self.status(of: resource) }
        )
    }

    func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) throws -> SurveyPage {
        let statement = try self.database.cachedStatement(
            sql: """
                SELECT resource FROM grants WHERE resource > ?1 UNION SELECT resource FROM waiters WHERE resource > ?1
                UNION SELECT resource FROM rests WHERE resource > ?1 ORDER BY 1
                """
        )
        var names: [Resource] = []
        var isLast = true
        let cursor = try Row.fetchCursor(statement, arguments: [cursor?.rawValue ?? ""])
        while let row = try cursor.next() {
            guard let resource = try? Resource(row.text(0)), pattern.matches(resource) else { continue }
            guard names.count < Limits.maximumSurveyPage else {
                isLast = false
                break
            }
            names.append(resource)
        }
        return SurveyPage(
            resources: try names.map { try self.status(of: $0) }.filter { !$0.isFree },
            next: isLast ? nil : names.last.map { SurveyPage.Cursor(rawValue: $0.name) }
        )
    }
}
