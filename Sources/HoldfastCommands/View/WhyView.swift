// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Why a resource is not free: who holds it, what they wait for, and so on to the roots.
package struct WhyView: Sendable {
    private let name: Resource
    private let statuses: [Resource: ResourceStatus]
    private let deadlocks: [Deadlock]

    /// Explains a resource.
    ///
    /// - Parameters:
    ///   - name: The resource.
    ///   - statuses: The resource and those that its holders wait for, as far as they are known.
    package init(_ name: Resource, _ statuses: [ResourceStatus]) {
        self.name = name
        self.statuses = Dictionary(statuses.map { ($0.resource, $0) }) { $1 }
        self.deadlocks = WaitForGraph(statuses).deadlocks
    }

    private struct Step {
        let depth: Int
        let resource: Resource
        let holder: Holder
        /// What the holder waits for, while it keeps this grant.
        let waits: [(resource: Resource, waiter: Waiter)]
        /// Whether what follows was said before.
        let isRepeated: Bool
    }

    /// Every holder on the way, the first ones first.
    private var steps: [Step] {
        var steps: [Step] = []
        var seen: Set<Resource> = []
        func visit(_ resource: Resource, _ depth: Int) {
            let isNew = seen.insert(resource).inserted
            for holder in self.statuses[resource]?.holders ?? [] {
                let waits = holder.reference.map(self.waits) ?? []
                steps.append(
                    Step(depth: depth, resource: resource, holder: holder, waits: waits, isRepeated: !isNew)
                )
                if isNew { for wait in waits { visit(wait.resource, depth + 1) } }
            }
        }
        visit(self.name, 0)
        return steps
    }

    private func waits(keeping reference: String) -> [(resource: Resource, waiter: Waiter)] {
        self.statuses.values.sorted { $0.resource < $1.resource }.flatMap { status in
            status.waiters.filter { $0.holding.contains(reference) }.map { (status.resource, $0) }
        }
    }

    /// Lines for people; the last one says what to do.
    package var lines: [String] {
        let status = self.statuses[self.name]
        let steps = self.steps
        guard !steps.isEmpty else { return [self.withoutHolder(status)] }
        var lines = steps.map { step in
            let indent = String(repeating: "  ", count: step.depth)
            var line = "\(indent)'\(Self.shown(step.resource))' is held by \(Self.shown(step.holder))"
            for wait in step.waits {
                let since = wait.waiter.waitingFor.map { " since \(DurationText.short($0))" } ?? ""
                line += ", which waits for '\(Self.shown(wait.resource))'\(since)"
            }
            return step.isRepeated ? "\(line) (see above)" : line
        }
        lines += self.advice(steps)
        return lines
    }

    private func withoutHolder(_ status: ResourceStatus?) -> String {
        let name = Self.shown(self.name)
        if let rest = status?.restingFor {
            return "'\(name)' rests for \(DurationText.short(rest)) more, since its holder vanished"
        }
        return "'\(name)' is free"
    }

    private func advice(_ steps: [Step]) -> [String] {
        if !self.deadlocks.isEmpty {
            return self.deadlocks.map { deadlock in
                let victim = deadlock.victim.waiter.owner?.description ?? "one of them"
                return "They wait for each other: \(TerminalText.escaped(deadlock.description)). "
                    + "Nothing goes on until one gives up; holdfast lets \(TerminalText.escaped(victim)) do so."
            }
        }
        let roots = steps.filter { $0.waits.isEmpty && !$0.isRepeated }
        return roots.map { root in
            let end = root.holder.remaining.map { "; its lease ends in \(DurationText.short($0)) unless renewed" } ?? ""
            // Most other libraries cannot be asked.
            let remedy = root.holder.owner == nil ? "take the lock from it" : "ask it to let go"
            return "It depends on \(Self.place(root.holder))\(end). To \(remedy): "
                + "holdfast revoke '\(Self.shown(root.resource))'\(root.holder.owner == nil ? " --force" : "")"
        }
    }

    /// The explanation as JSON: the steps in order.
    package var json: JSONValue {
        .object([
            .init("resource", .string(self.name.name)),
            .init("free", .bool(self.statuses[self.name]?.isFree ?? true)),
            .init(
                "chain",
                .array(
                    self.steps.map { step in
                        .object([
                            .init("depth", .integer(Int64(step.depth))),
                            .init("resource", .string(step.resource.name)),
                            .init("holder", StatusView.json(step.holder)),
                            .init("waits_for", .array(step.waits.map { .string($0.resource.name) })),
                        ])
                    }
                )
            ),
            .init("deadlocks", .array(self.deadlocks.map { .string($0.description) })),
        ])
    }

    private static func shown(_ resource: Resource) -> String { TerminalText.escaped(resource.name) }

    private static func shown(_ holder: Holder) -> String {
        let since = holder.heldFor.map { " for \(DurationText.short($0))" } ?? ""
        return "\(TerminalText.escaped(holder.name))\(since) (\(holder.mode))"
    }

    private static func place(_ holder: Holder) -> String {
        guard let owner = holder.owner else {
            guard let note = holder.note else { return "a foreign holder, of which only the lock is known" }
            return "a foreign holder, which says of itself '\(TerminalText.escaped(note))'"
        }
        let process = owner.process
        let label = owner.label.map { " (\(TerminalText.escaped($0)))" } ?? ""
        return
            "\(TerminalText.escaped(process.program))\(label), pid \(process.pid) on \(TerminalText.escaped(process.host))"
    }
}
