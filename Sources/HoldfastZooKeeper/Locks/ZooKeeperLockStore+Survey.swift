// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension ZooKeeperLockStore {
    /// See ``LockStore/survey(_:after:)``.
    ///
    /// Walks the nodes below the root in the order of their paths, a few hundred at a time: one read for each node, and
    /// one for each holder and waiter of what matches. A server may be a moment behind the others. Locks of other layouts
    /// are shown too. What the user may not read is counted.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended.
    /// - Returns: A page, in the order of paths.
    /// - Throws: ``LockError``.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        var walk = NodeWalk(root: self.configuration.root, after: cursor?.rawValue)
        var page: [ResourceStatus] = []
        var last: String?
        var hidden = 0
        while let places = walk.next() {
            // Each step has the time of a call: a large tree is no failure.
            let wire = try await self.wire()
            for (place, reply) in zip(places, await wire.children(of: places.map(\.path))) {
                switch reply.code {
                case .ok: break
                // Gone meanwhile.
                case .noNode: continue
                case .noPermission where place.path != self.rootNode:
                    hidden += 1
                    continue
                default: throw reply.code.error("list \(place.path)", at: self.place)
                }
                walk.found(reply.children, at: place, self.configuration.layout)
                let view = self.viewAsItIs(reply.children)
                guard !view.contenders.isEmpty,
                    let resource = LockPath.resource(at: place.path, below: self.configuration.root),
                    pattern.matches(resource)
                else { continue }
                walk.add(NodeWalk.Candidate(place: place, resource: resource, view: view))
            }
            for candidate in walk.takeReady() {
                guard page.count < Limits.maximumSurveyPage else {
                    return SurveyPage(
                        resources: page,
                        next: last.map { SurveyPage.Cursor(rawValue: $0) },
                        hidden: hidden
                    )
                }
                last = candidate.place.path
                let wire = try await self.wire()
                guard let queue = try await self.read(candidate.view, candidate.place.path, wire) else { continue }
                let status = self.describe(queue, candidate.resource)
                if !status.isFree { page.append(status) }
            }
        }
        return SurveyPage(resources: page, next: nil, hidden: hidden)
    }
}
