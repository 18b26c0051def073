// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastCache

private let records = [
    JournalRecord(.set, version: 1, key: "a", payload: [1, 2, 3]),
    JournalRecord(.set, version: 2, key: "b", payload: []),
    JournalRecord(.remove, version: 3, key: "ä/c"),
    JournalRecord(.settled, version: 1),
    JournalRecord(.set, version: 4, key: "b", payload: Array(repeating: 0xA7, count: 40)),
    JournalRecord(.parked, version: 3),
]

private func file(_ records: [JournalRecord], id: UInt64 = 7) -> (bytes: [UInt8], ends: [Int]) {
    var bytes = JournalFormat.head(id: id, highestVersion: 0)
    var ends = [bytes.count]
    for record in records {
        bytes += JournalFormat.bytes(of: record, id: id, offset: bytes.count)
        ends.append(bytes.count)
    }
    return (bytes, ends)
}

@Suite("The bytes of a journal")
struct JournalFormatTests {
    @Test("what was written is read, all of it and in order")
    func whole() throws {
        let (bytes, _) = file(records)
        let contents = try JournalFormat.contents(bytes)
        #expect(contents.lines.map(\.record) == records)
        #expect(contents.end == bytes.count)
        #expect(contents.highestVersion == 4)
    }

    @Test("a file that was cut anywhere has all records that were finished")
    func torn() throws {
        let (bytes, ends) = file(records)
        for cut in ends[0]...bytes.count {
            let contents = try JournalFormat.contents(Array(bytes.prefix(cut)))
            let whole = ends.lastIndex { $0 <= cut } ?? 0
            #expect(contents.lines.map(\.record) == Array(records.prefix(whole)), "cut at \(cut)")
            #expect(contents.end == ends[whole])
        }
        for cut in 0..<ends[0] {
            #expect(throws: JournalFormat.Fault.self) { try JournalFormat.contents(Array(bytes.prefix(cut))) }
        }
    }

    @Test("zeros at the end, as a power cut leaves them, are no record")
    func zeros() throws {
        let (bytes, ends) = file(records)
        for cut in ends[5]...bytes.count {
            let padded = bytes.prefix(cut) + Array(repeating: 0, count: 100)
            let contents = try JournalFormat.contents(Array(padded))
            #expect(contents.lines.count == (cut == bytes.count ? 6 : 5), "cut at \(cut)")
        }
    }

    @Test("a changed bit before the last record is an error that says where, never a lost record")
    func damaged() throws {
        let (bytes, ends) = file(records)
        for place in 0..<ends[5] {
            var changed = bytes
            changed[place] ^= 1 << (place % 8)
            let expected = ends.last { $0 <= place } ?? 0
            do {
                _ = try JournalFormat.contents(changed)
                Issue.record("a change at \(place) was not noticed")
            } catch .damaged(let offset) {
                #expect(offset == expected)
            } catch .foreign {
                #expect(place < 5)
            }
        }
    }

    @Test("a record of another file or another place is none")
    func bound() throws {
        let (bytes, ends) = file(records)
        let other = JournalFormat.head(id: 8, highestVersion: 0)
        #expect(try JournalFormat.contents(other + bytes[ends[0]...]).lines.isEmpty)
        let twice = bytes[..<ends[1]] + bytes[ends[0]..<ends[1]]
        #expect(try JournalFormat.contents(Array(twice)).lines.count == 1)
    }
}

/// A directory that is gone when the test has ended.
private func withDirectory(_ body: (String) async throws -> Void) async throws {
    let base = try TemporaryDirectory.make(prefix: "hf-journal-")
    defer { TemporaryDirectory.remove(base) }
    try await body(base + "/journal")
}

private func mode(_ path: String) -> mode_t {
    var info = stat()
    lstat(path, &info)
    return info.st_mode & 0o777
}

@Suite("A journal on disk", .timeLimit(.minutes(5)))
struct FileWriteJournalTests {
    @Test("what is not settled is there after a restart, and the numbers go on")
    func replay() async throws {
        try await withDirectory { path in
            let first = FileWriteJournal(directory: path)
            #expect(try await first.open() == JournalContents())
            try await first.append(Array(records.prefix(4)))
            try await first.append(Array(records.dropFirst(4)))
            await first.close()
            let second = FileWriteJournal(directory: path)
            let contents = try await second.open()
            #expect(contents.changes == [records[2], records[4]])
            #expect(contents.parked == [3])
            #expect(contents.highestVersion == 4)
            try await second.append([JournalRecord(.settled, version: 3), JournalRecord(.settled, version: 4)])
            await second.close()
            let third = FileWriteJournal(directory: path)
            #expect(try await third.open() == JournalContents(highestVersion: 4))
            await third.close()
        }
    }

    @Test("what a kill leaves of a record is cut off, and what comes then is read")
    func kill() async throws {
        try await withDirectory { path in
            let first = FileWriteJournal(directory: path)
            _ = try await first.open()
            try await first.append([records[0]])
            await first.close()
            let whole = try Data(contentsOf: URL(fileURLWithPath: path + "/journal"))
            let next = Data(JournalFormat.bytes(of: records[1], id: Self.id(whole), offset: whole.count))
            for cut in 1..<next.count {
                try (whole + next.prefix(cut)).write(to: URL(fileURLWithPath: path + "/journal"))
                let journal = FileWriteJournal(directory: path)
                #expect(try await journal.open().tornBytes == cut)
                try await journal.append([records[2]])
                await journal.close()
                let again = FileWriteJournal(directory: path)
                #expect(try await again.open().changes == [records[0], records[2]])
                await again.close()
            }
        }
    }

    private static func id(_ bytes: Data) -> UInt64 { bytes[5..<13].reduce(0) { $0 << 8 | UInt64($1) } }

    @Test("damage in the middle is an error with the file and the place, and the file stays as it is")
    func damage() async throws {
        try await withDirectory { path in
            let journal = FileWriteJournal(directory: path)
            _ = try await journal.open()
            try await journal.append(records)
            await journal.close()
            let url = URL(fileURLWithPath: path + "/journal")
            var bytes = try Data(contentsOf: url)
            bytes[JournalFormat.fileHead + 25] ^= 1
            try bytes.write(to: url)
            let error = await #expect(throws: CacheError.self) { _ = try await journal.open() }
            #expect(error?.code == .storage)
            #expect(error?.message.contains("\(path)/journal is damaged at byte \(JournalFormat.fileHead)") == true)
            #expect(try Data(contentsOf: url) == bytes)
        }
    }

    @Test("a second process, or cache, cannot use it")
    func locked() async throws {
        try await withDirectory { path in
            let first = FileWriteJournal(directory: path)
            _ = try await first.open()
            let second = FileWriteJournal(directory: path)
            let error = await #expect(throws: CacheError.self) { _ = try await second.open() }
            #expect(error?.code == .storage)
            await first.close()
            _ = try await second.open()
            await second.close()
        }
    }

    @Test("nobody else can read it, and a symbolic link is not followed")
    func rights() async throws {
        try await withDirectory { path in
            let journal = FileWriteJournal(directory: path)
            _ = try await journal.open()
            #expect(mode(path) == 0o700)
            #expect(mode(path + "/journal") == 0o600)
            #expect(mode(path + "/lock") == 0o600)
            await journal.close()
            rename(path + "/journal", path + "/elsewhere")
            symlink(path + "/elsewhere", path + "/journal")
            await #expect(throws: CacheError.self) { _ = try await journal.open() }
            unlink(path + "/journal")
            chmod(path, 0o777)
            await #expect(throws: CacheError.self) { _ = try await journal.open() }
        }
    }

    @Test("a full disk refuses what comes, keeps what was there, and goes on when there is room")
    func fullDisk() async throws {
        try await withDirectory { path in
            let isFull = Mutex(false)
            let journal = FileWriteJournal(directory: path) { step in
                if step == .torn, isFull.withLock({ $0 }) { throw Failure() }
            }
            _ = try await journal.open()
            try await journal.append([records[0]])
            isFull.withLock { $0 = true }
            let error = await #expect(throws: CacheError.self) { try await journal.append([records[1]]) }
            #expect(error?.code == .storage)
            isFull.withLock { $0 = false }
            try await journal.append([records[2]])
            await journal.close()
            let contents = try await journal.open()
            #expect(contents.changes == [records[0], records[2]])
            #expect(contents.tornBytes == 0)
            await journal.close()
        }
    }

    @Test(
        "it does not grow for ever, and no crash of its rewriting loses anything (bentocache 74)",
        arguments: [nil, "drafted", "flushed", "renamed"]
    )
    func compaction(crash: String?) async throws {
        try await withDirectory { path in
            let snapshots = Mutex<[Data: Data?]>([:])
            let journal = FileWriteJournal(directory: path, durability: .processEnd) { step in
                guard step.rawValue == crash else { return }
                // What a crash here would leave.
                guard let old = try? Data(contentsOf: URL(fileURLWithPath: path + "/journal")) else { return }
                let new = try? Data(contentsOf: URL(fileURLWithPath: path + "/journal.new"))
                snapshots.withLock { $0[old] = .some(new) }
            }
            _ = try await journal.open()
            snapshots.withLock { $0 = [:] }
            try await journal.append([
                JournalRecord(.set, version: 1, key: "kept", payload: [1]),
                JournalRecord(.set, version: 2, key: "dead", payload: [2]), JournalRecord(.parked, version: 2),
            ])
            let payload = [UInt8](repeating: 5, count: 100_000)
            for version in 3..<60 as Range<UInt64> {
                try await journal.append([JournalRecord(.set, version: version, key: "often", payload: payload)])
            }
            try await journal.append([JournalRecord(.settled, version: 59)])
            let size = try Data(contentsOf: URL(fileURLWithPath: path + "/journal")).count
            #expect(size < 2 * JournalBook.smallestCompaction)
            await journal.close()
            #expect(snapshots.withLock { $0.isEmpty } == (crash == nil))
            let contents = try await journal.open()
            #expect(contents.changes.map(\.key) == ["kept", "dead"])
            #expect(contents.parked == [2])
            #expect(contents.highestVersion == 59)
            await journal.close()
            for (old, new) in snapshots.withLock({ $0 }) {
                try old.write(to: URL(fileURLWithPath: path + "/journal"))
                if let new { try new.write(to: URL(fileURLWithPath: path + "/journal.new")) }
                let left = try await journal.open()
                #expect(left.changes.map(\.key).prefix(2) == ["kept", "dead"])
                #expect(left.parked == [2])
                await journal.close()
            }
        }
    }

    @Test("callers at the same time all get what they added on the disk")
    func together() async throws {
        try await withDirectory { path in
            let journal = FileWriteJournal(directory: path)
            _ = try await journal.open()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for version in 1...200 as ClosedRange<UInt64> {
                    group.addTask {
                        try await journal.append([
                            JournalRecord(.set, version: version, key: "k\(version)", payload: [1])
                        ])
                    }
                }
                try await group.waitForAll()
            }
            await journal.close()
            #expect(try await journal.open().changes.count == 200)
            await journal.close()
        }
    }

    @Test("a journal never takes more than it reads again, and what settles changes has room")
    func full() async throws {
        let base = try TemporaryDirectory.make(prefix: "hf-journal-")
        defer { TemporaryDirectory.remove(base) }
        let journal = FileWriteJournal(directory: base + "/j", durability: .processEnd, limit: 20_000) { _ in }
        _ = try await journal.open()
        let payload = [UInt8](repeating: 7, count: 1000)
        var count: UInt64 = 0
        let error = await #expect(throws: CacheError.self) {
            while count < 100 {
                try await journal.append([JournalRecord(.set, version: count + 1, key: "k\(count)", payload: payload)])
                count += 1
            }
        }
        #expect(error?.code == .storage)
        #expect((15..<20).contains(count))
        try await journal.append([JournalRecord(.settled, version: 1)])
        // What is settled makes room.
        try await journal.append([JournalRecord(.set, version: 100, key: "again", payload: payload)])
        await journal.close()
        let found = try await FileWriteJournal(directory: base + "/j", durability: .processEnd, limit: 20_000) { _ in }
            .open()
        #expect(found.changes.count == Int(count))
        #expect(found.highestVersion == 100)
    }

    @Test("keys that only look alike are two keys")
    func canonicalEquivalence() {
        var book = JournalBook()
        book.add(JournalRecord(.set, version: 1, key: "\u{E9}", payload: []), offset: 0, length: 1)
        book.add(JournalRecord(.set, version: 2, key: "e\u{301}", payload: []), offset: 1, length: 1)
        #expect(book.entries.count == 2)
    }
}
