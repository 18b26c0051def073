// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// The state of resources, for people and for scripts.
package enum StatusView {
    /// A table of holders, one row for each; a resource without any has one row too.
    package static func holders(_ statuses: [ResourceStatus]) -> TextTable {
        var table = TextTable([
            ("RESOURCE", .left), ("MODE", .left), ("HOLDER", .left), ("HOST", .left), ("PID", .right),
            ("SINCE", .right), ("LEASE LEFT", .right), ("TOKEN", .right), ("WAITERS", .right), ("LABEL", .left),
        ])
        for status in statuses {
            for holder in status.holders { table.append(Self.row(holder, of: status)) }
            if status.holders.isEmpty { table.append(Self.row(withoutHolderOf: status)) }
        }
        return table
    }

    private static func row(_ holder: Holder, of status: ResourceStatus) -> [String] {
        let process = holder.owner?.process
        return [
            status.resource.name,
            holder.isAccepting ? "\(holder.mode) (handing over)" : holder.mode.description,
            process?.program ?? "(foreign)",
            process?.host ?? "-",
            process.map { String($0.pid) } ?? "-",
            holder.heldFor.map(DurationText.short) ?? "-",
            holder.remaining.map(DurationText.short) ?? "no end",
            holder.fencingToken?.description ?? "-",
            String(status.waiters.count),
            holder.owner?.label ?? holder.note ?? "",
        ]
    }

    private static func row(withoutHolderOf status: ResourceStatus) -> [String] {
        let state = status.restingFor.map { "resting for \(DurationText.short($0))" } ?? "-"
        return [status.resource.name, state, "-", "-", "-", "-", "-", "-", String(status.waiters.count), ""]
    }

    /// A table of the waiters of one resource, the next in line first.
    package static func waiters(_ status: ResourceStatus) -> TextTable {
        var table = TextTable([
            ("NEXT", .right), ("WAITER", .left), ("HOST", .left), ("PID", .right), ("MODE", .left), ("FOR", .right),
            ("LABEL", .left),
        ])
        for (position, waiter) in status.waiters.enumerated() {
            let process = waiter.owner?.process
            table.append([
                String(position + 1),
                process?.program ?? "(foreign)",
                process?.host ?? "-",
                process.map { String($0.pid) } ?? "-",
                waiter.mode.description,
                waiter.waitingFor.map(DurationText.short) ?? "-",
                waiter.owner?.label ?? waiter.note ?? "",
            ])
        }
        return table
    }

    /// A resource as JSON.
    package static func json(_ status: ResourceStatus) -> JSONValue {
        .object([
            .init("resource", .string(status.resource.name)),
            .init("holders", .array(status.holders.map(Self.json))),
            .init("waiters", .array(status.waiters.map(Self.json))),
            .init("resting_for_s", Self.seconds(status.restingFor)),
        ])
    }

    /// A holder as JSON.
    package static func json(_ holder: Holder) -> JSONValue {
        .object(
            [.init("reference", .optional(holder.reference))] + Self.members(holder.owner) + [
                .init("mode", .string(holder.mode.description)),
                .init("fencing_token", holder.fencingToken.map { .integer(Int64(clamping: $0.rawValue)) } ?? .null),
                .init("held_for_s", Self.seconds(holder.heldFor)),
                .init("lease_left_s", Self.seconds(holder.remaining)),
                .init("handing_over", .bool(holder.isAccepting)),
                .init("note", .optional(holder.note)),
            ]
        )
    }

    /// A waiter as JSON.
    package static func json(_ waiter: Waiter) -> JSONValue {
        .object(
            [.init("reference", .string(waiter.reference))] + Self.members(waiter.owner) + [
                .init("mode", .string(waiter.mode.description)),
                .init("waiting_for_s", Self.seconds(waiter.waitingFor)),
                .init("note", .optional(waiter.note)),
            ]
        )
    }

    private static func members(_ owner: OwnerID?) -> [JSONValue.Member] {
        [
            .init("owner", .optional(owner?.id)),
            .init("program", .optional(owner?.process.program)),
            .init("host", .optional(owner?.process.host)),
            .init("pid", owner.map { .integer(Int64($0.process.pid)) } ?? .null),
            .init("label", .optional(owner?.label)),
        ]
    }

    private static func seconds(_ duration: Duration?) -> JSONValue {
        duration.map { .decimal($0.inSeconds, places: 3) } ?? .null
    }
}
