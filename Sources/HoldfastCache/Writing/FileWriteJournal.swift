// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Glibc
import HoldfastCore
import Synchronization

/// A journal in a directory of its own: records are added at the end of one file, which is written anew when most of it
/// does not count any more.
///
/// The directory is made with mode 0700 and its files with 0600; symbolic links are not followed. It is locked with
/// `flock(2)` while it is open, so that no second process writes into it; not for network file systems, which promise
/// less. A record that was never finished, because the process died or the power went, is left out when the journal is
/// opened. Anything else that is damaged is an error that says where, and the file stays as it is.
///
/// Work is done on a queue of the journal's own, never on the cooperative pool. Records of many callers that come while
/// others are being written go to the disk together.
public final class FileWriteJournal: WriteJournal {
    /// What a record survives once it was added.
    public enum Durability: Sendable, Hashable {
        /// The end of the process, however it ends, but not that of the machine.
        case processEnd
        /// A power cut too: each addition waits for the disk (`fsync(2)`).
        case powerCut
    }

    /// What has been done of an addition or a new file, for tests of crashes and full disks.
    package enum Step: String, Sendable, CaseIterable {
        /// Half of an addition is written.
        case torn
        /// An addition is written.
        case written
        /// Half of a new file is written.
        case drafted
        /// A new file is written and flushed.
        case flushed
        /// The new file has the old one's name.
        case renamed
    }

    private struct Addition: Sendable {
        let records: [JournalRecord]
        let continuation: CheckedContinuation<Void, any Error>
    }

    /// Where it is.
    public let directory: String
    private let durability: Durability
    private let interrupt: @Sendable (Step) throws -> Void
    private let limit: Int
    private let queue = DispatchQueue(label: "holdfast.write-journal")
    private let additions = Mutex<[Addition]>([])
    private let listeners = Mutex<[@Sendable (CacheError) -> Void]>([])
    /// Held on the queue only, so that nobody ever waits for it.
    private let disk = Mutex<JournalDisk?>(nil)

    /// Makes a journal without touching the disk.
    ///
    /// - Parameters:
    ///   - directory: Where it is; made when it is not there, but not what it is in.
    ///   - durability: What a record survives.
    public convenience init(directory: String, durability: Durability = .powerCut) {
        self.init(directory: directory, durability: durability, interrupt: { _ in })
    }

    /// Makes a journal whose writes stop where `interrupt` throws, or at a length.
    package init(
        directory: String,
        durability: Durability = .powerCut,
        limit: Int? = nil,
        interrupt: @escaping @Sendable (Step) throws -> Void
    ) {
        self.directory = directory
        self.durability = durability
        self.interrupt = interrupt
        self.limit = limit ?? JournalDisk.maximumSize
    }

    /// Locks the directory and reads what is there.
    ///
    /// - Returns: What is not settled.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/storage``: another process has it open, the system refuses, or
    ///   the file is damaged; it is not changed then.
    @concurrent
    public func open() async throws -> JournalContents {
        try await withCheckedThrowingContinuation { continuation in
            self.queue.async {
                continuation.resume(
                    with: Result {
                        try self.disk.withLock { disk in
                            guard disk == nil else {
                                throw CacheError(.storage, "the journal \(self.directory) is open already")
                            }
                            let opened = try JournalDisk(
                                self.directory,
                                self.durability,
                                limit: self.limit,
                                self.interrupt
                            )
                            let contents = opened.contents
                            disk = opened
                            return contents
                        }
                    }
                )
            }
        }
    }

    /// Adds records.
    ///
    /// Cancelling the caller does not stop it.
    ///
    /// - Parameter records: The records.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/storage`` when the disk is full or does not work, or the file
    ///   has 4 GiB of what is not written yet; none of them counts then.
    @concurrent
    public func append(_ records: [JournalRecord]) async throws {
        try await withCheckedThrowingContinuation { continuation in
            self.additions.withLock { $0.append(Addition(records: records, continuation: continuation)) }
            self.queue.async { self.addNow() }
        }
    }

    /// Tells of each time that the file could not be written anew without what does not count any more.
    ///
    /// The old one goes on then, and grows.
    ///
    /// - Parameter listener: Called on the journal's queue; must return soon.
    public func watch(_ listener: @escaping @Sendable (CacheError) -> Void) {
        self.listeners.withLock { $0.append(listener) }
    }

    /// Closes the file, and lets others open it.
    @concurrent
    public func close() async {
        await withCheckedContinuation { continuation in
            self.queue.async {
                self.disk.withLock { $0 = nil }
                continuation.resume()
            }
        }
    }

    /// Adds all that waits.
    private func addNow() {
        let additions = self.additions.withLock { additions in
            defer { additions = [] }
            return additions
        }
        // An earlier turn may have taken what this one is for.
        guard !additions.isEmpty else { return }
        let together = self.add(additions.flatMap(\.records))
        for addition in additions {
            // What does not fit together may fit one by one.
            let isAlone = additions.count == 1
            let result = (try? together.get()) != nil || isAlone ? together : self.add(addition.records)
            addition.continuation.resume(with: result)
        }
        guard let failure = self.disk.withLock({ $0?.compactIfNeeded() }) else { return }
        for listener in self.listeners.withLock({ $0 }) { listener(failure) }
    }

    private func add(_ records: [JournalRecord]) -> Result<Void, any Error> {
        Result {
            try self.disk.withLock { disk in
                guard let disk else { throw CacheError(.storage, "the journal \(self.directory) is not open") }
                try disk.add(records)
            }
        }
    }
}
