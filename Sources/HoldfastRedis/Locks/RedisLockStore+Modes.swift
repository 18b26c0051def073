// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisLockStore {
    /// See ``LockStore/convert(_:)``.
    ///
    /// One round trip; two when it is the first to wait, since messages must be on their way before it may rely on
    /// them. An upgrade that too few replicas have (``RedisConfiguration/replicas``) is taken back.
    ///
    /// On a cluster, while a slot is on its way, a holder beside others can become exclusive; an exclusive one cannot
    /// become anything else before its keys have arrived, which is an error (``LockError/Code/storeUnavailable``) and changes
    /// nothing.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the mode is then unknown unless the message says otherwise.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        if case .permit(of: let count) = conversion.mode, count < 1 {
            throw LockError(.invalidArgument, "a semaphore needs at least 1 permit, not \(count)")
        }
        guard conversion.contention == .queue else { return try await self.convert(conversion, .none) }
        if let master = self.knownMaster(of: conversion.key.resource), master.subscription.settled == nil {
            master.subscription.start()
            let reply = try await self.convert(conversion, .none)
            guard case .busy = reply else { return reply }
        }
        switch try await self.listening(for: conversion.key.resource).standing {
        case .listening: return try await self.convert(conversion, .listening)
        case .forbidden: return try await self.convert(conversion, .polling)
        case .late, .refused:
            throw LockError(
                .storeUnavailable,
                "no connection for messages to \(self.configuration) yet, so the mode was not changed; try again"
            )
        }
    }

    private func convert(_ conversion: Conversion, _ patience: LockCommands.Patience) async throws -> ConvertReply {
        for _ in 0..<ConversionCount.mostAttempts {
            let number = self.conversions.next()
            let command = self.commands.convert(conversion, number: number, patience, floor: self.floor)
            // What is given up needs no witnesses.
            let answer = try await self.client.send(
                to: command.place,
                awaitsReplicas: self.configuration.replicas > 0 && conversion.mode == .exclusive,
                command.request
            )
            switch try command.read(answer) {
            case .reply(let reply):
                if case .converted(let token) = reply {
                    self.saw(token)
                    if conversion.mode == .exclusive { try await self.confirm(conversion, answer) }
                }
                return reply
            case .outdated(let last): self.conversions.raise(to: last)
            }
        }
        throw ConversionCount.conflict(conversion.key.resource)
    }

    /// Makes sure that replicas have an upgrade; goes back to update mode if they have not.
    private func confirm(_ conversion: Conversion, _ answer: RedisClient.Answer) async throws {
        guard let shortfall = self.shortfall(answer, "upgrade") else { return }
        let back = Conversion(conversion.key, to: .update)
        let command = self.commands.convert(back, number: self.conversions.next(), .none, floor: self.floor)
        _ = try? await self.client.run(command)
        throw shortfall
    }

    /// See ``LockStore/waits(of:for:)``.
    ///
    /// One round trip, and one step on the server, which follows at most 5,000 holders and waiters; on a cluster some for
    /// each owner in the way, so that waits may end while others are read. Knows of waits for which this was asked within
    /// ten minutes, by stores of the same prefix.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: ``LockError``.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        guard case .cluster = self.servers else {
            return try await self.client.run(self.commands.waits(of: owner, for: resource))
        }
        return try await self.followWaits(of: owner, for: resource)
    }
}
