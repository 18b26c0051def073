// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// The lock scripts as commands: what the store of one master and that of a majority are both made of.
package struct LockCommands: Sendable {
    /// The most holders and waiters that are read for one look at waits: about 20 ms of the server's time.
    private static let maximumWaitsRead = 5000
    /// How many keys one `SCAN` looks at: about half a millisecond of the server's time.
    private static let keysPerScan = 500

    let prefix: String
    private let isCluster: Bool
    private let owners = OwnerText()

    /// Makes commands.
    ///
    /// - Parameters:
    ///   - prefix: What all keys of locks start with.
    ///   - isCluster: Whether they are for nodes of a cluster.
    package init(prefix: String, isCluster: Bool = false) {
        self.prefix = prefix
        self.isCluster = isCluster
    }

    /// The keys of a lock.
    package func keys(of resource: Resource) -> LockKeys { LockKeys(self.prefix, resource, isCluster: self.isCluster) }

    // MARK: - Requests

    /// An answer to a request for a lock, and whether it was sent twice.
    typealias Acquisition = (reply: AcquireReply, isRepeat: Bool)

    /// Asks for a lock.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - queues: Whether to take a place in the queue.
    ///   - channel: Where to send messages; empty for nowhere.
    ///   - floor: What the token must reach where other masters may have given some too; `nil` on a single one.
    ///   - number: How often this is tried, from 1, on one of several masters.
    /// - Returns: The command.
    func acquire(
        _ request: LockRequest,
        queues: Bool,
        channel: String,
        floor: SeenTokens.Floor? = nil,
        try number: Int = 1
    ) -> LockCommand<Acquisition> {
        let script = floor == nil ? LockScripts.acquire : LockScripts.acquireOnNode
        let number = floor == nil ? nil : number
        return self.ask(script, request, queues: queues, channel, floor, number) { answer throws(LockError) in
            (try ScriptReplies.acquire(answer.reply, resource: request.resource), answer.isRepeat)
        }
    }

    /// Gives up what a try of a request holds on a server, and puts it into the queue.
    func yield(_ request: LockRequest, try number: Int, channel: String) -> LockCommand<Bool> {
        self.ask(LockScripts.yield, request, queues: true, channel, nil, number) { answer throws(LockError) in
            try ScriptReplies.number(answer.reply) == 1
        }
    }

    private func ask<Reply>(
        _ script: LockScript,
        _ request: LockRequest,
        queues: Bool,
        _ channel: String,
        _ floor: SeenTokens.Floor?,
        _ number: Int?,
        _ read: @escaping @Sendable (RedisClient.Answer) throws(LockError) -> Reply
    ) -> LockCommand<Reply> {
        let keys = self.keys(of: request.resource)
        let owner = self.owners.text(of: request.owner)
        let manner = LockModeText.manner(of: request, queues: queues)
        let lease = request.lease.millisecondsRoundedUp
        let call = ScriptCall(script: script, keys: keys) { encoder in
            encoder.part(request.id)
            encoder.part(lease)
            encoder.part("|\(lease)|\(request.lockDelay.millisecondsRoundedUp)|", channel, "|", owner)
            encoder.part(manner)
            if let floor {
                encoder.part(floor.new)
                encoder.part(floor.accepted)
            }
            if let number { encoder.part(Int64(number)) }
        }
        return LockCommand(place: .lock(keys), request: .call(call), read: read)
    }

    /// Gives up a request wherever it is.
    ///
    /// Here and below, the floor is what the token must reach of whoever gets the lock then, where another master may have
    /// given tokens that this one does not know.
    package func withdraw(_ request: GrantKey, floor: Int64? = nil) -> LockCommand<WithdrawReply> {
        self.single(LockScripts.withdraw, request.resource, floor) { encoder in
            encoder.part(request.id)
        } read: { answer throws(LockError) in
            switch try ScriptReplies.number(answer.reply) {
            case 1: .withdrawn
            case 2: .released
            default: .notFound
            }
        }
    }

    // MARK: - Grants

    /// Renews grants; on a cluster, of one slot.
    package func renew(_ renewals: [Renewal], floor: Int64? = nil) -> LockCommand<[RenewReply]> {
        LockCommand(place: self.place(of: renewals.map(\.key.resource))) { [self] encoder, isKnown in
            LockScripts.renew.begin(
                &encoder,
                locks: renewals.count,
                isKnown: isKnown,
                isCluster: self.isCluster,
                extra: floor == nil ? 0 : 1
            )
            for renewal in renewals { self.keys(of: renewal.key.resource).encode(&encoder) }
            for renewal in renewals {
                encoder.part(renewal.key.id)
                encoder.part(max(1, renewal.lease.millisecondsRoundedUp))
            }
            if let floor { encoder.part(floor) }
        } read: { answer throws(LockError) in
            try ScriptReplies.renewals(answer.reply, count: renewals.count)
        }
    }

    /// Gives a lock back.
    package func release(_ grant: GrantKey, floor: Int64? = nil) -> LockCommand<ReleaseReply> {
        self.single(LockScripts.release, grant.resource, floor) { encoder in
            encoder.part(grant.id)
        } read: { answer throws(LockError) in
            ScriptReplies.release(try ScriptReplies.number(answer.reply), isRepeat: answer.isRepeat)
        }
    }

    /// What came of a release by a store that tells its own waiters.
    package struct HandOver: Sendable {
        let reply: ReleaseReply
        /// Whether it was sent twice.
        let isRepeat: Bool
        /// Who holds now.
        let holders: [(id: RequestID, token: FencingToken)]
        /// Who is next after them, and when it should ask.
        let next: (id: RequestID, pause: Duration)?
    }

    /// Gives a lock back, and has those who wait by the same store hold it at once; see ``LockScripts/handOver``.
    package func handOver(_ grant: GrantKey, channel: String) -> LockCommand<HandOver> {
        self.single(LockScripts.handOver, grant.resource) { encoder in
            encoder.part(grant.id)
            encoder.part(channel)
        } read: { answer throws(LockError) in
            try ScriptReplies.handOver(answer)
        }
    }

    /// Lifts a holder's token, and says whether it holds.
    package func lift(_ grant: GrantKey, to token: FencingToken) -> LockCommand<Bool> {
        self.single(LockScripts.lift, grant.resource) { encoder in
            encoder.part(grant.id)
            encoder.part(Int64(clamping: token.rawValue))
        } read: { answer throws(LockError) in
            try ScriptReplies.number(answer.reply) == 1
        }
    }

    /// How a conversion treats others in the way.
    package enum Patience: String, Sendable {
        /// It does not wait.
        case none = "f"
        /// It waits for a message.
        case listening = "q"
        /// It waits, and asks again and again.
        case polling = "p"
    }

    /// What came of asking for another mode.
    package enum Converted: Sendable {
        case reply(ConvertReply)
        /// Nothing: it was asked for something else since, under a higher number.
        case outdated(by: Int64)
    }

    /// Changes the mode of a grant.
    ///
    /// - Parameters:
    ///   - conversion: The grant and its new mode.
    ///   - number: Higher than that of each change of this grant before: a copy that is late must not undo a later one.
    ///   - patience: How it treats others in the way.
    ///   - floor: What a token must reach.
    /// - Returns: The command.
    package func convert(
        _ conversion: Conversion,
        number: Int64,
        _ patience: Patience,
        floor: Int64? = nil
    ) -> LockCommand<Converted> {
        self.single(LockScripts.convert, conversion.key.resource, floor) { encoder in
            encoder.part(conversion.key.id)
            encoder.part(LockModeText.text(of: conversion.mode))
            encoder.part(patience.rawValue)
            encoder.part(LockModeText.text(of: conversion.holding))
            encoder.part(number)
        } read: { answer throws(LockError) in
            if case .integer(let number) = answer.reply, number < 0 { return .outdated(by: -max(number, -.max)) }
            return .reply(try ScriptReplies.convert(answer.reply))
        }
    }

    // MARK: - Operators

    /// Asks the holders to let go.
    package func revoke(_ resource: Resource) -> LockCommand<RevokeReply> {
        self.single(LockScripts.revoke, resource) { answer throws(LockError) in
            let parts = try ScriptReplies.elements(answer.reply, atLeast: 1)
            let reached = try ScriptReplies.number(parts[0])
            return RevokeReply(asked: try ScriptReplies.holders(parts[1...]), reached: reached > 0 ? 1 : 0)
        }
    }

    /// Takes a lock from its holders.
    package func force(_ resource: Resource, floor: Int64? = nil) -> LockCommand<[Holder]> {
        var command = self.single(LockScripts.force, resource, floor) { answer throws(LockError) in
            try ScriptReplies.holders(try ScriptReplies.elements(answer.reply)[...])
        }
        // Sent twice it could throw out the next holder as well.
        command.isRepeatable = false
        return command
    }

    /// Describes resources, at least one, in the order they are given; on a cluster, of one slot.
    package func statuses(_ resources: [Resource]) -> LockCommand<[ResourceStatus]> {
        LockCommand(place: self.place(of: resources)) { [self] encoder, isKnown in
            LockScripts.status.begin(&encoder, locks: resources.count, isKnown: isKnown, isCluster: self.isCluster)
            for resource in resources { self.keys(of: resource).encode(&encoder) }
        } read: { answer throws(LockError) in
            var statuses: [ResourceStatus] = []
            let replies = try ScriptReplies.elements(answer.reply, atLeast: resources.count)
            for (resource, reply) in zip(resources, replies) {
                statuses.append(try ScriptReplies.status(reply, of: resource))
            }
            return statuses
        }
    }

    /// Resources that have a record, and where to go on; 0 at the end.
    package typealias ScanPage = (found: [Resource], next: UInt64)

    /// Looks at the next keys of a server.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - position: Where to go on; 0 to begin.
    ///   - place: Whose keys, on a cluster.
    /// - Returns: The command.
    package func scan(
        _ pattern: ResourcePattern,
        from position: UInt64,
        on place: RedisClient.Place = .any
    ) -> LockCommand<ScanPage> {
        let prefix = self.prefix
        let glob = LockKeys.recordGlob(pattern, prefix: prefix)
        return LockCommand(place: place) { encoder, _ in
            encoder.command(["SCAN", String(position), "MATCH", glob, "COUNT", String(Self.keysPerScan)])
        } read: { answer throws(LockError) in
            let parts = try ScriptReplies.elements(answer.reply, atLeast: 2)
            guard let next = parts[0].text.flatMap({ UInt64($0) }) else { throw ScriptReplies.unreadable }
            let found = try ScriptReplies.elements(parts[1]).compactMap { key in
                key.text.flatMap { LockKeys.resource(ofRecord: $0, prefix: prefix) }
            }
            return (found.filter(pattern.matches), next)
        }
    }

    /// Describes what an owner's waiting requests hang on.
    package func waits(of owner: OwnerID, for resource: Resource) -> LockCommand<[ResourceStatus]> {
        let prefix = self.prefix
        return self.single(LockScripts.waits, resource) { encoder in
            encoder.part(owner.id)
            encoder.part(prefix)
            encoder.part(Int64(Limits.maximumWaitGraph))
            encoder.part(Int64(Self.maximumWaitsRead))
        } read: { answer throws(LockError) in
            let parts = try ScriptReplies.elements(answer.reply)
            var statuses: [ResourceStatus] = []
            for index in stride(from: 0, to: parts.count - 1, by: 2) {
                guard let name = parts[index].text else { throw ScriptReplies.unreadable }
                // Stores of other prefixes write there too; what is no name here is none of ours.
                guard let resource = try? Resource(String(name.dropFirst(prefix.count))) else { continue }
                statuses.append(try ScriptReplies.status(parts[index + 1], of: resource))
            }
            return statuses
        }
    }

    private func place(of resources: [Resource]) -> RedisClient.Place {
        guard let first = resources.first else { return .any }
        let keys = self.keys(of: first)
        return resources.count == 1 || !self.isCluster ? .lock(keys) : .locks(keys.slot)
    }

    /// A script for one resource, whose last argument is the floor if there is one.
    private func single<Reply>(
        _ script: LockScript,
        _ resource: Resource,
        _ floor: Int64? = nil,
        _ encode: @escaping @Sendable (inout CommandEncoder) -> Void = { _ in },
        read: @escaping @Sendable (RedisClient.Answer) throws(LockError) -> Reply
    ) -> LockCommand<Reply> {
        let keys = self.keys(of: resource)
        let call = ScriptCall(script: script, keys: keys, extra: floor == nil ? 0 : 1) { encoder in
            encode(&encoder)
            if let floor { encoder.part(floor) }
        }
        return LockCommand(place: .lock(keys), request: .call(call), read: read)
    }
}

extension RedisClient {
    /// How many times `SCAN` is asked for one page at most, so that a page of few locks among many keys ends.
    private static let scansPerPage = 16

    /// Walks the keys of the server for a while; several round trips.
    ///
    /// - Parameters:
    ///   - commands: What to ask.
    ///   - pattern: Which resources.
    ///   - position: Where to go on; 0 to begin.
    ///   - place: Whose keys, on a cluster.
    /// - Returns: Resources that have a record, each once, and where to go on; 0 at the end.
    /// - Throws: ``LockError``.
    func scan(
        _ commands: LockCommands,
        _ pattern: ResourcePattern,
        from position: UInt64,
        on place: Place = .any
    ) async throws(LockError) -> LockCommands.ScanPage {
        var position = position
        var found: Set<Resource> = []
        for _ in 0..<Self.scansPerPage {
            let page = try await self.run(commands.scan(pattern, from: position, on: place))
            found.formUnion(page.found)
            position = page.next
            if position == 0 || found.count >= Limits.maximumSurveyPage / 2 { break }
        }
        return (found.sorted(), position)
    }
}
