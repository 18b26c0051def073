// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import NIOCore

/// Which server is asked.
extension RedisLockStore {
    /// The master that has a lock.
    func master(of resource: Resource) async throws(LockError) -> RedisMaster {
        switch self.servers {
        case .one(let master): return master
        case .cluster(let cluster):
            // Those who wait ask nobody, so somebody else has to.
            cluster.watch()
            return try await cluster.master(of: self.commands.keys(of: resource).slot)
        }
    }

    /// The same, if it is known.
    func knownMaster(of resource: Resource) -> RedisMaster? {
        switch self.servers {
        case .one(let master): master
        case .cluster(let cluster): cluster.known(self.commands.keys(of: resource).slot)
        }
    }

    /// Tells the masters of a cluster apart; see ``LockStore/server(of:)``.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: A number for its master, as far as is known now.
    public func server(of resource: Resource) -> Int {
        guard case .cluster = self.servers else { return 0 }
        return self.knownMaster(of: resource)?.address.hashValue ?? 0
    }

    /// All masters.
    func masters() async throws(LockError) -> [RedisMaster] {
        switch self.servers {
        case .one(let master): [master]
        case .cluster(let cluster): try await cluster.masters()
        }
    }

    /// How far a master's messages are, within a call's time.
    func standing(_ master: RedisMaster) async -> Subscription.Standing {
        await master.subscription.standing(by: self.client.deadline)
    }

    /// How soon to look for another master while messages do not come.
    private static let nextLook: TimeAmount = .milliseconds(100)

    /// Which master has a lock, and how far its messages are; waits for them as long as a call may take.
    ///
    /// On a cluster the map is read again while they do not come: a node that is dead will never send any, and another may
    /// have its slots. Nobody else would look for seconds, since what is to be sent waits for the messages. Reading a map
    /// that has no master for the lock takes up to a call's time more.
    ///
    /// - Parameter resource: The lock.
    /// - Returns: The master that was asked last, and its messages.
    /// - Throws: ``LockError`` when nobody has the slot; nothing was sent then.
    func listening(
        for resource: Resource
    ) async throws(LockError) -> (master: RedisMaster, standing: Subscription.Standing) {
        let deadline = self.client.deadline
        guard case .cluster(let cluster) = self.servers else {
            let master = try await self.master(of: resource)
            return (master, await master.subscription.standing(by: deadline))
        }
        while true {
            let next = min(deadline, .now() + Self.nextLook)
            do {
                let master = try await self.master(of: resource)
                let standing = await master.subscription.standing(by: next)
                guard standing == .late, .now() < deadline, cluster.isOpen else { return (master, standing) }
            } catch {
                guard error.code == .storeUnavailable, .now() < deadline, cluster.isOpen else { throw error }
                await self.client.pause(until: next)
            }
            cluster.lookSoon()
        }
    }

    /// Runs a command for several locks: on a cluster one for each slot, all at once, on one server for all together.
    ///
    /// - Parameters:
    ///   - items: What it is for, at least one.
    ///   - resource: The lock of each.
    ///   - unknown: The answer where a command fails while others do not; `nil` to fail altogether.
    ///   - client: What it goes by; `nil` for the usual.
    ///   - command: Makes the command for some of them; it answers for each.
    /// - Returns: An answer for each.
    /// - Throws: ``LockError``.
    func perSlot<Item: Sendable, Reply: Sendable>(
        _ items: [Item],
        _ resource: (Item) -> Resource,
        orElse unknown: Reply? = nil,
        by client: RedisClient? = nil,
        _ command: ([Item]) -> LockCommand<[Reply]>
    ) async throws(LockError) -> [Reply] {
        let client = client ?? self.client
        guard case .cluster = self.servers else { return try await client.run(command(items)) }
        var groups: [RedisSlot: [Int]] = [:]
        for (index, item) in items.enumerated() {
            groups[self.commands.keys(of: resource(item)).slot, default: []].append(index)
        }
        var outcomes = await Self.outcomes(Array(groups.values), items, by: client, command)
        // While a slot is on its way, each of its locks stands differently.
        let moving = outcomes.indices.filter { index in
            guard outcomes[index].indices.count > 1, case .failure(let error) = outcomes[index].reply
            else { return false }
            return ["TRYAGAIN", "ASK"].contains((error.underlying as? RedisErrorLine)?.kind)
        }
        if !moving.isEmpty {
            let alone = moving.flatMap { outcomes[$0].indices.map { [$0] } }
            for index in moving.reversed() { outcomes.remove(at: index) }
            outcomes += await Self.outcomes(alone, items, by: client, command)
        }
        var replies = [Reply?](repeating: nil, count: items.count)
        let isAnswered = outcomes.contains { if case .success = $0.reply { true } else { false } }
        for (indices, outcome) in outcomes {
            switch outcome {
            case .success(let some): for (index, reply) in zip(indices, some) { replies[index] = reply }
            case .failure(let error):
                guard isAnswered, let unknown else { throw error }
                for index in indices { replies[index] = unknown }
            }
        }
        let complete = replies.compactMap(\.self)
        guard complete.count == items.count else { throw ScriptReplies.unreadable }
        return complete
    }

    private typealias Outcome<Reply: Sendable> = (indices: [Int], reply: Result<[Reply], LockError>)

    /// Runs a command for each of several groups, all at once.
    private static func outcomes<Item: Sendable, Reply: Sendable>(
        _ groups: [[Int]],
        _ items: [Item],
        by client: RedisClient,
        _ command: ([Item]) -> LockCommand<[Reply]>
    ) async -> [Outcome<Reply>] {
        let commands = groups.map { indices in (indices, command(indices.map { items[$0] })) }
        return await withTaskGroup(of: Outcome<Reply>.self) { group in
            for (indices, command) in commands {
                group.addTask {
                    let reply: Result<[Reply], LockError>
                    do throws(LockError) {
                        reply = .success(try await client.run(command))
                    } catch {
                        reply = .failure(error)
                    }
                    return (indices, reply)
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }
}
