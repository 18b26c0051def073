// SPDX-License-Identifier: Apache-2.0

import Dispatch
public import Foundation
public import HoldfastCore

/// A fenced value in a file: bytes, with the token in the same file.
///
/// All processes of a machine may write; each write takes `flock(2)` on `PATH.lock`, compares tokens, writes a new file
/// beside the old one, flushes it, renames it over the old one, and flushes the directory. A crash or a power cut at any
/// step leaves the old value or the new one, whole; what is left of an unfinished write is removed by the next. Files
/// are made with mode 0600 and symbolic links are not followed.
///
/// The file starts with one line, `holdfast-fenced 1 TOKEN LENGTH`; the bytes follow. A file that does not look like
/// this, or is cut short, is an error and is never overwritten: its token is not known, so nobody may write.
///
/// Not for network file systems, where `flock` and `rename` promise less. Work is done on a queue of the file's own,
/// never on the cooperative pool. A write waits for one of another process for at most ten seconds, since that process may
/// be stopped in the middle of it; cancelling ends the wait, not a write that has begun.
public final class FencedFile: FencedStore {
    /// The steps of a write, in order, after each of which a crash must be survived.
    package enum Step: String, Sendable, CaseIterable {
        /// The lock is taken and the token compared.
        case checked
        /// Half of the new file is written.
        case torn
        /// The new file is written.
        case written
        /// The new file is flushed.
        case flushed
        /// The new file has the old one's name.
        case renamed
    }

    /// The largest value, in bytes: it passes through memory as a whole.
    public static let maximumSize = 1 << 30

    /// The path.
    public let path: String
    private let queue = DispatchQueue(label: "holdfast.fenced-file")
    private let interrupt: @Sendable (Step) throws -> Void

    /// Makes a fenced file without touching it.
    ///
    /// - Parameter path: The file. Its directory must exist and should be writable by this user only.
    public convenience init(path: String) { self.init(path: path, interrupt: { _ in }) }

    /// Makes a fenced file whose writes stop, as by a crash, where `interrupt` throws.
    package init(path: String, interrupt: @escaping @Sendable (Step) throws -> Void) {
        self.path = path
        self.interrupt = interrupt
    }

    /// Writes the bytes unless a higher token was accepted before.
    ///
    /// - Parameters:
    ///   - value: The new bytes.
    ///   - token: The token of the writer's grant.
    /// - Throws: `LockError` with code `fenced` when a higher token was accepted before, `storeCorrupted` when the file
    ///   holds something else, `storeRefused` or `storeUnavailable` when the system refuses or another process does
    ///   not end its write; `CancellationError` while waiting for that. Only errors of the last step, flushing the
    ///   directory, leave the value written.
    @concurrent
    public func write(_ value: Data, fencedBy token: FencingToken) async throws {
        guard value.count <= Self.maximumSize else {
            throw LockError(.invalidArgument, "a value of \(value.count) bytes; the limit is \(Self.maximumSize)")
        }
        let end = ContinuousClock.now.advanced(by: Self.patience)
        while try await !self.tryWrite(value, fencedBy: token) {
            guard ContinuousClock.now < end else {
                throw LockError(
                    .storeUnavailable,
                    "another process has been writing \(self.path) for \(Self.patience.brief); it may be stopped"
                )
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    /// How long to wait for another process' write: one takes milliseconds, so whoever takes longer is stopped.
    private static let patience: Duration = .seconds(10)
    /// Between two tries.
    private static let pause: Duration = .microseconds(500)

    /// - Returns: Whether nobody else was writing.
    @concurrent
    private func tryWrite(_ value: Data, fencedBy token: FencingToken) async throws -> Bool {
        try await withCheckedThrowingContinuation { continuation in
            self.queue.async { continuation.resume(with: Result { try self.writeNow(value, fencedBy: token) }) }
        }
    }

    /// Reads the bytes and their token.
    ///
    /// Takes no lock: renaming is atomic.
    ///
    /// - Returns: Both, or `nil` when nothing was written yet.
    /// - Throws: `LockError` with code `storeCorrupted` when the file holds something else, `storeRefused` or
    ///   `storeUnavailable` when it cannot be read.
    @concurrent
    public func read() async throws -> Fenced<Data>? {
        try await withCheckedThrowingContinuation { continuation in
            self.queue.async { continuation.resume(with: Result { try self.readNow() }) }
        }
    }

    private func writeNow(_ value: Data, fencedBy token: FencingToken) throws -> Bool {
        let lock = try FileDescriptor(opening: self.path + ".lock", flags: O_RDWR | O_CREAT)
        while flock(lock.rawValue, LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return false }
            guard errno == EINTR else { throw FileDescriptor.failure("lock", self.path + ".lock") }
        }
        defer { flock(lock.rawValue, LOCK_UN) }
        // Somebody may have removed the file meanwhile: then another one is the lock now.
        guard lock.isStill(at: self.path + ".lock") else { return false }
        var fence = Fence(highest: try self.readNow()?.token ?? .zero)
        try fence.admit(token)
        try self.interrupt(.checked)
        try self.replace(with: FencedFileFormat.bytes(of: Fenced(value: value, token: token)))
        return true
    }

    /// Writes, flushes and renames; the lock is held.
    private func replace(with bytes: Data) throws {
        let draft = self.path + ".new"
        // A draft that a crash left behind; nobody else writes one while the lock is held.
        unlink(draft)
        let file = try FileDescriptor(opening: draft, flags: O_WRONLY | O_CREAT | O_EXCL)
        try file.write(bytes.prefix(bytes.count / 2))
        try self.interrupt(.torn)
        try file.write(bytes.dropFirst(bytes.count / 2))
        try self.interrupt(.written)
        guard fsync(file.rawValue) == 0 else { throw FileDescriptor.failure("flush", draft) }
        try self.interrupt(.flushed)
        guard rename(draft, self.path) == 0 else { throw FileDescriptor.failure("rename", draft) }
        try self.interrupt(.renamed)
        let directory = try FileDescriptor(opening: self.directory, flags: O_RDONLY | O_DIRECTORY, followsLinks: true)
        guard fsync(directory.rawValue) == 0 else { throw FileDescriptor.failure("flush", self.directory) }
    }

    private func readNow() throws -> Fenced<Data>? {
        guard let file = try FileDescriptor(ifExists: self.path, flags: O_RDONLY | O_NONBLOCK) else { return nil }
        let bytes = try file.readAll(limit: Self.maximumSize + FencedFileFormat.maximumHeader)
        guard let fenced = FencedFileFormat.fenced(bytes) else {
            throw LockError(
                .storeCorrupted,
                "\(self.path) is not a whole fenced file, so its token is not known; restore it, or remove it by hand"
            )
        }
        return fenced
    }

    private var directory: String {
        guard let slash = self.path.lastIndex(of: "/") else { return "." }
        return slash == self.path.startIndex ? "/" : String(self.path[..<slash])
    }
}
