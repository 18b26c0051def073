// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Who waits for whom, drawn in several ways.
package struct WaitGraphView: Sendable {
    private let statuses: [ResourceStatus]
    private let deadlocks: [Deadlock]
    /// The requests that are part of a deadlock, by reference.
    private let stuck: Set<String>

    /// Draws the waits for some resources.
    package init(_ statuses: [ResourceStatus]) {
        self.statuses = statuses.filter { !$0.isFree }.sorted { $0.resource < $1.resource }
        self.deadlocks = WaitForGraph(statuses).deadlocks
        self.stuck = Set(self.deadlocks.flatMap { $0.cycle.map(\.from.waiter.reference) })
    }

    /// Whether requests wait for each other in a circle.
    package var hasDeadlock: Bool { !self.deadlocks.isEmpty }

    /// Lines for people: each resource with its holders and waiters, then the deadlocks.
    package func lines(style: TerminalStyle) -> [String] {
        var lines: [String] = []
        for status in self.statuses {
            lines.append(style.bold(TerminalText.escaped(status.resource.name)))
            for holder in status.holders {
                let since = holder.heldFor.map { " for \(DurationText.short($0))" } ?? ""
                lines.append("  held by \(TerminalText.escaped(holder.name))\(since), \(holder.mode)")
            }
            for waiter in status.waiters {
                let who = TerminalText.escaped(waiter.name)
                let since = waiter.waitingFor.map { " for \(DurationText.short($0))" } ?? ""
                let mark = self.stuck.contains(waiter.reference) ? "  DEADLOCK" : ""
                lines.append("  waited for by \(who)\(since), \(waiter.mode)\(mark)")
            }
        }
        for (number, deadlock) in self.deadlocks.enumerated() {
            lines.append("deadlock \(number + 1): \(TerminalText.escaped(deadlock.description))")
        }
        return lines
    }

    /// The graph as JSON: resources, and deadlocks as circles of waits.
    package var json: JSONValue {
        .object([
            .init("resources", .array(self.statuses.map(StatusView.json))),
            .init("deadlocks", .array(self.deadlocks.map(Self.json))),
        ])
    }

    private static func json(_ deadlock: Deadlock) -> JSONValue {
        .object([
            .init("text", .string(deadlock.description)),
            .init(
                "cycle",
                .array(
                    deadlock.cycle.map { edge in
                        .object([
                            .init("waiter", StatusView.json(edge.from.waiter)),
                            .init("resource", .string(edge.from.resource.name)),
                            .init("holder", edge.grant.map(StatusView.json) ?? .null),
                        ])
                    }
                )
            ),
        ])
    }

    // MARK: - Diagrams

    private enum Shape {
        case owner
        case resource
    }

    private struct Arrow {
        let from: Int
        let to: Int
        let label: String
        let isStuck: Bool
    }

    /// Owners and resources, and arrows: from an owner to what it waits for, from a resource to who holds it.
    private func diagram() -> (nodes: [(shape: Shape, label: String)], arrows: [Arrow]) {
        var nodes: [(shape: Shape, label: String)] = []
        var numbers: [String: Int] = [:]
        func number(_ shape: Shape, _ key: String, _ label: String) -> Int {
            let key = "\(shape) \(key)"
            if let number = numbers[key] { return number }
            nodes.append((shape, label))
            numbers[key] = nodes.count - 1
            return nodes.count - 1
        }
        let grants = Set(self.deadlocks.flatMap { $0.cycle.compactMap(\.grant?.reference) })
        var arrows: [Arrow] = []
        for status in self.statuses {
            let resource = number(.resource, status.resource.name, status.resource.name)
            for holder in status.holders {
                // Foreign readers of one lock are told apart by their tokens, where there are some.
                let token = holder.fencingToken?.description ?? ""
                let owner = number(.owner, holder.owner?.id ?? "of \(status.resource.name) \(token)", holder.name)
                let isStuck = holder.reference.map(grants.contains) ?? false
                arrows.append(Arrow(from: resource, to: owner, label: "held, \(holder.mode)", isStuck: isStuck))
            }
            for waiter in status.waiters {
                let owner = number(.owner, waiter.owner?.id ?? waiter.reference, waiter.name)
                let since = waiter.waitingFor.map { " \(DurationText.short($0))" } ?? ""
                let isStuck = self.stuck.contains(waiter.reference)
                arrows.append(
                    Arrow(from: owner, to: resource, label: "waits\(since), \(waiter.mode)", isStuck: isStuck)
                )
            }
        }
        return (nodes, arrows)
    }

    /// The graph in the language of Graphviz.
    package var dot: String {
        let (nodes, arrows) = self.diagram()
        var lines = ["digraph holdfast {", "  rankdir=LR;"]
        for (index, node) in nodes.enumerated() {
            let shape = node.shape == .owner ? "ellipse" : "box"
            lines.append("  n\(index) [shape=\(shape), label=\"\(Self.quoted(node.label))\"];")
        }
        for arrow in arrows {
            let color = arrow.isStuck ? ", color=red, fontcolor=red" : ""
            lines.append("  n\(arrow.from) -> n\(arrow.to) [label=\"\(Self.quoted(arrow.label))\"\(color)];")
        }
        return (lines + ["}"]).joined(separator: "\n")
    }

    private static func quoted(_ text: String) -> String {
        TerminalText.escaped(text).map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
    }

    /// The graph in the language of Mermaid.
    package var mermaid: String {
        let (nodes, arrows) = self.diagram()
        var lines = ["graph LR"]
        for (index, node) in nodes.enumerated() {
            let label = Self.entities(node.label)
            lines.append(node.shape == .owner ? "  n\(index)([\"\(label)\"])" : "  n\(index)[\"\(label)\"]")
        }
        for arrow in arrows { lines.append("  n\(arrow.from) -->|\"\(Self.entities(arrow.label))\"| n\(arrow.to)") }
        let stuck = arrows.indices.filter { arrows[$0].isStuck }.map(String.init)
        if !stuck.isEmpty { lines.append("  linkStyle \(stuck.joined(separator: ",")) stroke:red,color:red") }
        return lines.joined(separator: "\n")
    }

    /// Mermaid knows no escapes, only entities.
    private static func entities(_ text: String) -> String {
        TerminalText.escaped(text).unicodeScalars.map { scalar in
            switch scalar {
            case "\"", "#", "<", ">", "&", "|", ";", "`": "#\(scalar.value);"
            default: String(scalar)
            }
        }.joined()
    }
}
