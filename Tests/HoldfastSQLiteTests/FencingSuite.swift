// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import Holdfast
import HoldfastCore
import HoldfastSQLite
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FencingSuite {
    let sandbox: Sandbox

    init() throws { self.sandbox = try Sandbox() }

    private var path: String { self.sandbox.directory + "/value" }

    private func stores() throws -> [any FencedStore<Data>] {
        [
            InMemoryFencedStore<Data>(),
            FencedFile(path: self.path),
            FencedTable(try DatabaseQueue(path: self.sandbox.directory + "/user.db"), key: "k", table: "odd \"name\""),
        ]
    }

    @Test func `every fenced store accepts equal and higher tokens and refuses lower ones`() async throws {
        for store in try self.stores() {
            #expect(try await store.read() == nil)
            try await store.write(Data("one".utf8), fencedBy: FencingToken(rawValue: 7))
            try await store.write(Data("two".utf8), fencedBy: FencingToken(rawValue: 7))
            try await store.write(Data("three\n\0".utf8), fencedBy: FencingToken(rawValue: 9))
            let refusal = await #expect(throws: LockError.self) {
                try await store.write(Data("late".utf8), fencedBy: FencingToken(rawValue: 8))
            }
            #expect(refusal?.code == .fenced)
            #expect(try await store.read() == Fenced(value: Data("three\n\0".utf8), token: FencingToken(rawValue: 9)))
        }
    }

    @Test(arguments: FencedFile.Step.allCases)
    func `a crash at any step leaves the old value or the new one`(step: FencedFile.Step) async throws {
        struct Crash: Error {}
        try await FencedFile(path: self.path).write(Data("old".utf8), fencedBy: FencingToken(rawValue: 1))
        let crashing = FencedFile(path: self.path) { if $0 == step { throw Crash() } }
        await #expect(throws: Crash.self) {
            try await crashing.write(Data("newer".utf8), fencedBy: FencingToken(rawValue: 2))
        }
        let fenced = try #require(try await FencedFile(path: self.path).read())
        let isNew = step == .renamed
        #expect(
            fenced == Fenced(value: Data((isNew ? "newer" : "old").utf8), token: FencingToken(rawValue: isNew ? 2 : 1))
        )
        try await FencedFile(path: self.path).write(Data("next".utf8), fencedBy: FencingToken(rawValue: 3))
        #expect(try await FencedFile(path: self.path).read()?.value == Data("next".utf8))
        #expect(!FileManager.default.fileExists(atPath: self.path + ".new"))
    }

    @Test(arguments: ["", "garbage", "holdfast-fenced 1 5 10\nshort", "holdfast-fenced 2 5 1\nx"])
    func `a file that is not whole is an error and is never overwritten`(text: String) async throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: self.path))
        let file = FencedFile(path: self.path)
        let reading = await #expect(throws: LockError.self) { try await file.read() }
        #expect(reading?.code == .storeCorrupted)
        await #expect(throws: LockError.self) {
            try await file.write(Data("x".utf8), fencedBy: FencingToken(rawValue: .max))
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: self.path)) == Data(text.utf8))
    }

    @Test func `a fenced file is private and follows no links`() async throws {
        let file = FencedFile(path: self.path)
        try await file.write(Data("x".utf8), fencedBy: FencingToken(rawValue: 1))
        var info = stat()
        #expect(lstat(self.path, &info) == 0 && info.st_mode & 0o777 == 0o600)
        let link = self.sandbox.directory + "/link"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: self.path)
        let refusal = await #expect(throws: LockError.self) {
            try await FencedFile(path: link).write(Data("y".utf8), fencedBy: FencingToken(rawValue: 2))
        }
        #expect(refusal?.code == .storeRefused)
        #expect(try await file.read()?.value == Data("x".utf8))
    }

    @Test func `writers in a race leave the highest token`() async throws {
        let path = self.path
        await withTaskGroup(of: Void.self) { group in
            for token in UInt64(1)...40 {
                group.addTask {
                    try? await FencedFile(path: path)
                        .write(Data("\(token)".utf8), fencedBy: FencingToken(rawValue: token))
                }
            }
        }
        #expect(
            try await FencedFile(path: path).read()
                == Fenced(value: Data("40".utf8), token: FencingToken(rawValue: 40))
        )
    }

    @Test func `a fenced table works inside the user's own transaction`() async throws {
        let database = try DatabaseQueue()
        try await database.write { database in
            try database.execute(sql: "CREATE TABLE log (line TEXT)")
            try FencedTable.makeTable("fenced", in: database)
            try FencedTable.write(Data("a".utf8), key: "k", fencedBy: FencingToken(rawValue: 5), in: database)
        }
        await #expect(throws: LockError.self) {
            try await database.write { database in
                try database.execute(sql: "INSERT INTO log VALUES ('late')")
                try FencedTable.write(Data("b".utf8), key: "k", fencedBy: FencingToken(rawValue: 4), in: database)
            }
        }
        #expect(try await database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM log") } == 0)
        #expect(try await FencedTable(database, key: "k").read()?.token == FencingToken(rawValue: 5))
    }
}
