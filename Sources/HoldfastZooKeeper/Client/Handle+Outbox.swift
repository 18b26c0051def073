// SPDX-License-Identifier: Apache-2.0

import CZooKeeper

/// Sending changes, alone or together.
///
/// Whoever asked for a change is in the callback table by its number, which the library completes when the change is sent
/// alone; a transaction is there by a number of its own. A change whose caller does not wait any more when its turn comes
/// is not sent.
extension Handle {
    private typealias Failed = [(number: UInt, code: Int32)]

    /// When nobody stops waiting for what the library will complete in any case.
    private static var never: ContinuousClock.Instant { .now.advanced(by: .seconds(1_000_000_000)) }

    /// Takes a change, and sends it now or with others.
    func post(_ change: Outbox.Change) {
        let failed = unsafe self.locked { raw, outbox in
            if outbox.passes() {
                var failed: Failed = []
                unsafe self.submit(change, raw, &outbox, &failed)
                return failed
            }
            outbox.add(change)
            return unsafe self.flush(&outbox, raw, isUrgent: false)
        }
        self.settle(failed ?? Self.all(of: change, ServerCode.notConnected.rawValue))
    }

    /// Sends what is to be sent now.
    ///
    /// - Returns: What the library did not take; to be settled without the lock.
    func flush(_ outbox: inout Outbox, _ raw: OpaquePointer, isUrgent: Bool) -> [(number: UInt, code: Int32)] {
        var failed: Failed = []
        while let submission = outbox.next(isUrgent: isUrgent) {
            switch submission {
            case .alone(let change): unsafe self.submit(ifWanted: change, raw, &outbox, &failed)
            case .together(let changes):
                let wanted = changes.filter(self.isWanted)
                guard wanted.count > 1 else {
                    if let change = wanted.first {
                        unsafe self.submit(change, raw, &outbox, &failed)
                    } else {
                        outbox.answered()
                    }
                    continue
                }
                unsafe self.submit(Transaction(wanted, self.acl), raw, &failed)
            }
        }
        return failed
    }

    private static func all(of change: Outbox.Change, _ code: Int32) -> Failed {
        [(change.number, code)] + (change.list.map { [($0, code)] } ?? [])
    }

    /// Whether somebody waits for a change; if not, it is forgotten.
    private func isWanted(_ change: Outbox.Change) -> Bool {
        guard !self.table.isAwaited(change.number) else { return true }
        for (number, _) in Self.all(of: change, 0) {
            self.table.complete(number, CallReply(code: .late), isAnswer: false)
        }
        return false
    }

    /// Enters what is sent for others.
    private func enter(reachesLeader: Bool, _ done: @escaping @Sendable (CallReply) -> Void) -> UInt {
        self.table.enter(
            CallbackTable.Call(
                handle: self.number,
                sentAt: .now,
                reachesLeader: reachesLeader,
                deadline: Self.never,
                done: done,
                free: nil
            )
        )
    }

    // MARK: - Alone

    private func submit(
        ifWanted change: Outbox.Change,
        _ raw: OpaquePointer,
        _ outbox: inout Outbox,
        _ failed: inout [(number: UInt, code: Int32)]
    ) {
        guard self.isWanted(change) else { return outbox.answered() }
        unsafe self.submit(change, raw, &outbox, &failed)
    }

    private func submit(
        _ change: Outbox.Change,
        _ raw: OpaquePointer,
        _ outbox: inout Outbox,
        _ failed: inout [(number: UInt, code: Int32)]
    ) {
        let ok = ServerCode.ok.rawValue
        let code =
            switch change.kind {
            case .delete: unsafe zoo_adelete(raw, change.path, -1, voidCompletion, context(change.number))
            case .create(let data, _, _):
                unsafe self.submitCreate(raw, change.path, data, .ephemeralSequential, context(change.number))
            }
        guard code == ok else {
            // The library will not complete it.
            outbox.answered()
            failed += Self.all(of: change, code)
            return
        }
        guard case .create(_, let parent, let list) = change.kind else { return }
        let listed = unsafe zoo_aget_children2(raw, parent, 0, childrenCompletion, context(list))
        if listed != ok { failed.append((list, listed)) }
    }

    /// Books the answer to a change that was sent alone.
    ///
    /// - Parameters:
    ///   - parent: The parent of a new node.
    ///   - reply: The answer.
    func answered(_ parent: String?, _ reply: CallReply) {
        self.proceed { $0.answered(reply.code == .ok ? parent : nil) }
    }

    /// Books an answer and sends what waited for it.
    private func proceed(_ book: (inout Outbox) -> Void) {
        let failed = unsafe self.locked { raw, outbox in
            book(&outbox)
            return unsafe self.flush(&outbox, raw, isUrgent: false)
        }
        self.settle(failed ?? [])
    }

    // MARK: - Together

    private func submit(
        _ transaction: Transaction,
        _ raw: OpaquePointer,
        _ failed: inout [(number: UInt, code: Int32)]
    ) {
        let number = self.enter(reachesLeader: true) { [self] in self.answered(transaction, $0) }
        let code = unsafe transaction.submit(raw, context(number))
        guard code == ServerCode.ok.rawValue else {
            failed += transaction.changes.flatMap { Self.all(of: $0, code) } + [(number, code)]
            return
        }
        for change in transaction.changes {
            guard case .create(_, let parent, let list) = change.kind else { continue }
            let number = self.enter(reachesLeader: false) { [self] reply in
                guard transaction.listed(list, reply) else { return }
                self.table.complete(list, reply, isAnswer: false)
            }
            failed.append((number, unsafe zoo_aget_children2(raw, parent, 0, childrenCompletion, context(number))))
        }
    }

    private func answered(_ transaction: Transaction, _ reply: CallReply) {
        if reply.code == .ok {
            let lists = transaction.end(.done)
            for (index, change) in transaction.changes.enumerated() {
                self.table.complete(change.number, transaction.reply(at: index), isAnswer: false)
            }
            for (number, reply) in lists { self.table.complete(number, reply, isAnswer: false) }
            return self.proceed { $0.answered() }
        }
        if reply.code.isAnswer || reply.code.hadNoEffect {
            // None of the changes was made; one of them cannot be, and the others can.
            _ = transaction.end(.split)
            let failed = unsafe self.locked { raw, outbox in
                var failed: Failed = []
                outbox.split(transaction.changes)
                for change in transaction.changes { unsafe self.submit(ifWanted: change, raw, &outbox, &failed) }
                return failed + (unsafe self.flush(&outbox, raw, isUrgent: false))
            }
            return self.settle(
                failed ?? transaction.changes.flatMap { Self.all(of: $0, ServerCode.notConnected.rawValue) }
            )
        }
        let lists = transaction.end(.failed)
        for change in transaction.changes {
            self.table.complete(change.number, CallReply(code: reply.code), isAnswer: false)
        }
        for (number, reply) in lists { self.table.complete(number, reply, isAnswer: false) }
        self.proceed { $0.answered() }
    }
}
