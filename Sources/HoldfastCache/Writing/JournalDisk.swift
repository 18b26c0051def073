// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
import HoldfastCore

/// The file of a journal, open and locked.
///
/// Blocking; used off the cooperative pool, by one thread at a time.
final class JournalDisk {
    typealias Step = FileWriteJournal.Step

    /// The largest file that is read: it passes through memory as a whole.
    static let maximumSize = 4 << 30
    /// Rights that nobody else may have on the directory: to put another file in the place of ours.
    private static let foreignRights = S_IWGRP | S_IWOTH

    private let directory: String
    private let durability: FileWriteJournal.Durability
    private let interrupt: (Step) throws -> Void
    private let limit: Int
    private let lock: FileDescriptor
    private var file: FileDescriptor
    private var id: UInt64
    private var end: Int
    private var book: JournalBook
    /// The size at which to try again to write the file anew, once that has failed.
    private var nextCompaction = 0
    /// Why nothing can be added any more.
    private var fault: CacheError?
    /// What was there when it was opened.
    private(set) var contents: JournalContents

    private var path: String { self.directory + "/journal" }

    /// Opens a journal, or makes one.
    init(
        _ directory: String,
        _ durability: FileWriteJournal.Durability,
        limit: Int,
        _ interrupt: @escaping (Step) throws -> Void
    ) throws {
        do {
            try Self.makeDirectory(directory)
            let lock = try FileDescriptor(opening: directory + "/lock", flags: O_RDWR | O_CREAT)
            while flock(lock.rawValue, LOCK_EX | LOCK_NB) != 0 {
                guard errno == EWOULDBLOCK || errno == EINTR else {
                    throw FileDescriptor.failure("lock", directory + "/lock")
                }
                if errno == EWOULDBLOCK {
                    throw CacheError(
                        .storage,
                        "another process, or another cache of this one, uses the journal \(directory)"
                    )
                }
            }
            // A draft that a crash left behind.
            unlink(directory + "/journal.new")
            if try FileDescriptor(ifExists: directory + "/journal", flags: O_RDONLY | O_NONBLOCK) == nil {
                let id = UInt64.random(in: .min ... .max)
                _ = try Self.replace(directory, JournalFormat.head(id: id, highestVersion: 0), interrupt)
            }
            let path = directory + "/journal"
            let file = try FileDescriptor(opening: path, flags: O_RDWR | O_APPEND)
            let bytes = Array(try file.readAll(limit: limit))
            guard bytes.count <= limit else {
                throw CacheError(.storage, "\(path) is too large; its limit is \(limit) bytes")
            }
            let found = try JournalFormat.contents(bytes)
            if found.end < bytes.count {
                guard ftruncate(file.rawValue, found.end) == 0, fsync(file.rawValue) == 0 else {
                    throw FileDescriptor.failure("repair the end of", path)
                }
            }
            var book = JournalBook(highestVersion: found.highestVersion)
            var changes: [UInt64: JournalRecord] = [:]
            for line in found.lines {
                book.add(line.record, offset: line.offset, length: line.length)
                if line.record.kind == .set || line.record.kind == .remove {
                    changes[line.record.version] = line.record
                }
            }
            (self.directory, self.durability, self.interrupt) = (directory, durability, interrupt)
            self.limit = limit
            self.lock = lock
            self.file = file
            (self.id, self.end, self.book) = (found.id, found.end, book)
            self.contents = JournalContents(
                changes: book.entries.keys.sorted().compactMap { changes[$0] },
                parked: Set(book.entries.filter(\.value.isParked).keys),
                highestVersion: book.highestVersion,
                tornBytes: bytes.count - found.end
            )
        } catch let fault as JournalFormat.Fault {
            throw Self.error(fault, directory + "/journal")
        } catch let error as LockError {
            throw CacheError(.storage, error.message, underlying: error)
        }
    }

    private static func error(_ fault: JournalFormat.Fault, _ path: String) -> CacheError {
        switch fault {
        case .foreign: CacheError(.storage, "\(path) is not a journal that this program can read; it was left as it is")
        case .damaged(let offset):
            CacheError(
                .storage,
                "\(path) is damaged at byte \(offset), with whole records behind it; it was left as it is: restore it, or "
                    + "move it away and lose what was not written"
            )
        }
    }

    private static func makeDirectory(_ directory: String) throws {
        let isNew = mkdir(directory, 0o700) == 0
        guard isNew || errno == EEXIST else { throw FileDescriptor.failure("make", directory) }
        var info = stat()
        guard lstat(directory, &info) == 0 else { throw FileDescriptor.failure("look at", directory) }
        guard info.st_mode & S_IFMT == S_IFDIR else { throw CacheError(.storage, "\(directory) is not a directory") }
        guard info.st_uid == geteuid(), info.st_mode & Self.foreignRights == 0 else {
            throw CacheError(.storage, "\(directory) can be changed by other users; give it to this one with mode 0700")
        }
    }

    // MARK: - Adding

    /// Adds records: all or none.
    ///
    /// What would make the file longer than is read again is refused, once what does not count any more is left out.
    func add(_ records: [JournalRecord]) throws {
        if let fault = self.fault { throw fault }
        let length = records.reduce(0) { $0 + JournalFormat.length(of: $1) }
        // What says that changes are written must have room when no more changes have.
        let isChange = records.contains { $0.kind == .set || $0.kind == .remove }
        let limit = isChange ? self.limit - self.limit / 16 : self.limit
        if self.end + length > limit, self.book.liveBytes + length <= limit {
            do {
                try self.compact()
            } catch {
                unlink(self.directory + "/journal.new")
                throw Self.storage(error, "write \(self.path) anew")
            }
        }
        guard self.end + length <= limit else {
            throw CacheError(.storage, "\(self.path) is full: \(limit) bytes of changes are its limit")
        }
        var bytes = Data()
        var lines: [(offset: Int, length: Int)] = []
        for record in records {
            let one = JournalFormat.bytes(of: record, id: self.id, offset: self.end + bytes.count)
            lines.append((self.end + bytes.count, one.count))
            bytes.append(contentsOf: one)
        }
        do {
            try self.file.write(bytes.prefix(bytes.count / 2))
            try self.interrupt(.torn)
            try self.file.write(bytes.dropFirst(bytes.count / 2))
            try self.interrupt(.written)
        } catch {
            let failure = Self.storage(error, "add to \(self.path)")
            // What was half written must not stand before what comes next.
            if ftruncate(self.file.rawValue, self.end) != 0 { self.fault = failure }
            throw failure
        }
        if self.durability == .powerCut, fsync(self.file.rawValue) != 0 {
            let failure = Self.storage(FileDescriptor.failure("flush", self.path), "")
            // Which bytes are on the disk is not known any more, and a later flush would not say so.
            ftruncate(self.file.rawValue, self.end)
            self.fault = failure
            throw failure
        }
        self.end += bytes.count
        for (record, line) in zip(records, lines) { self.book.add(record, offset: line.offset, length: line.length) }
    }

    private static func storage(_ error: any Error, _ what: String) -> CacheError {
        if let error = error as? CacheError { return error }
        let reason = (error as? LockError)?.message ?? "cannot \(what)"
        return CacheError(.storage, reason, underlying: error)
    }

    // MARK: - Writing it anew

    /// Leaves out what does not count any more, when that is most of the file.
    ///
    /// When it fails the old file goes on, and this is tried again when it is twice as long.
    ///
    /// - Returns: Why it failed, if it did.
    func compactIfNeeded() -> CacheError? {
        let isDue = self.end >= self.nextCompaction && self.book.wantsCompaction(self.end)
        guard self.fault == nil, isDue else { return nil }
        do {
            try self.compact()
            self.nextCompaction = 0
            return nil
        } catch {
            unlink(self.directory + "/journal.new")
            self.nextCompaction = 2 * self.end
            return Self.storage(error, "write \(self.path) anew")
        }
    }

    private func compact() throws {
        let id = UInt64.random(in: .min ... .max)
        var book = JournalBook(highestVersion: self.book.highestVersion)
        var bytes = JournalFormat.head(id: id, highestVersion: self.book.highestVersion)
        for (version, entry) in self.book.entries.sorted(by: { $0.key < $1.key }) {
            var records = [try self.record(version, entry)]
            if entry.isParked { records.append(JournalRecord(.parked, version: version)) }
            for record in records {
                let one = JournalFormat.bytes(of: record, id: id, offset: bytes.count)
                book.add(record, offset: bytes.count, length: one.count)
                bytes += one
            }
        }
        // The new file is open before it has its name: from then on the old one must not be written.
        self.file = try Self.replace(self.directory, bytes, self.interrupt)
        (self.id, self.end, self.book) = (id, bytes.count, book)
    }

    /// Reads a record that counts.
    private func record(_ version: UInt64, _ entry: JournalBook.Entry) throws -> JournalRecord {
        var bytes = [UInt8](repeating: 0, count: entry.length)
        var count = 0
        while count < entry.length {
            let more = bytes[count...].withUnsafeMutableBytes {
                pread(self.file.rawValue, $0.baseAddress, $0.count, entry.offset + count)
            }
            if more < 0, errno == EINTR { continue }
            guard more > 0 else { throw FileDescriptor.failure("read", self.path) }
            count += more
        }
        guard let record = JournalFormat.record(bytes, id: self.id, offset: entry.offset), record.version == version
        else {
            throw CacheError(.storage, "\(self.path) is damaged at byte \(entry.offset)")
        }
        return record
    }

    /// Puts a new file in the place of the old one.
    private static func replace(
        _ directory: String,
        _ bytes: [UInt8],
        _ interrupt: (Step) throws -> Void
    ) throws -> FileDescriptor {
        let draft = directory + "/journal.new"
        let file = try FileDescriptor(opening: draft, flags: O_RDWR | O_APPEND | O_CREAT | O_EXCL)
        try file.write(Data(bytes.prefix(bytes.count / 2)))
        try interrupt(.drafted)
        try file.write(Data(bytes.dropFirst(bytes.count / 2)))
        guard fsync(file.rawValue) == 0 else { throw FileDescriptor.failure("flush", draft) }
        try interrupt(.flushed)
        guard rename(draft, directory + "/journal") == 0 else { throw FileDescriptor.failure("rename", draft) }
        // From here on it is the journal; that its name is not on the disk yet is no reason to go on with the old one.
        try? interrupt(.renamed)
        if let folder = try? FileDescriptor(opening: directory, flags: O_RDONLY | O_DIRECTORY) {
            fsync(folder.rawValue)
        }
        return file
    }
}
