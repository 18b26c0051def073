// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisLockStore {
    /// The most holders and waiters that are read for one call of ``waits(of:for:)``: about 20 ms of the server's time.
    private static var maximumWaitsRead: Int { 5000 }

    /// See ``LockStore/convert(_:)``.
    ///
    /// One round trip; two when it is the first to wait, since messages must be on their way before it may rely on
    /// them.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the mode is then unknown unless the message says otherwise.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        if case .permit(of: let count) = conversion.mode, count < 1 {
            throw LockError(.invalidArgument, "a semaphore needs at least 1 permit, not \(count)")
        }
        guard conversion.contention == .queue else { return try await self.convert(conversion, manner: "f") }
        if !self.isListeningSettled {
            let reply = try await self.convert(conversion, manner: "f")
            guard case .busy = reply else { return reply }
        }
        switch await self.standing() {
        case .listening: return try await self.convert(conversion, manner: "q")
        case .forbidden: return try await self.convert(conversion, manner: "p")
        case .late, .refused:
            throw LockError(
                .storeUnavailable,
                "no connection for messages to \(self.configuration) yet, so the mode was not changed; try again"
            )
        }
    }

    private func convert(_ conversion: Conversion, manner: String) async throws -> ConvertReply {
        let keys = LockKeys(self.configuration.prefix, conversion.key.resource)
        let answer = try await self.client.send { encoder, isKnown in
            LockScripts.convert.begin(&encoder, isKnown: isKnown)
            keys.encode(&encoder)
            encoder.part(conversion.key.id)
            encoder.part(LockModeText.text(of: conversion.mode))
            encoder.part(manner)
            encoder.part(LockModeText.text(of: conversion.holding))
        }
        return try ScriptReplies.convert(answer.reply)
    }

    /// See ``LockStore/waits(of:for:)``.
    ///
    /// One round trip, and one step on the server, which follows at most 5,000 holders and waiters. Knows of waits for
    /// which this was asked within a day, by stores of the same prefix.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: ``LockError``.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        let prefix = self.configuration.prefix
        let keys = LockKeys(prefix, resource)
        let answer = try await self.client.send { encoder, isKnown in
            LockScripts.waits.begin(&encoder, isKnown: isKnown)
            keys.encode(&encoder)
            encoder.part(owner.id)
            encoder.part(prefix)
            encoder.part(Int64(Limits.maximumWaitGraph))
            encoder.part(Int64(Self.maximumWaitsRead))
        }
        let parts = try ScriptReplies.elements(answer.reply)
        return try stride(from: 0, to: parts.count - 1, by: 2).compactMap { index in
            guard let name = parts[index].text else { throw ScriptReplies.unreadable }
            // Stores of other prefixes write there too; what is no name here is none of ours.
            guard let resource = try? Resource(String(name.dropFirst(prefix.count))) else { return nil }
            return try ScriptReplies.status(parts[index + 1], of: resource)
        }
    }
}
