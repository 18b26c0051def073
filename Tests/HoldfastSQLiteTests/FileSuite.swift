// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import HoldfastCore
import HoldfastSQLite
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FileSuite {
    let sandbox: Sandbox

    init() throws { self.sandbox = try Sandbox() }

    private func failure(of store: SQLiteLockStore) async -> LockError? {
        do {
            _ = try await store.acquire(request("a"))
            return nil
        } catch { return error as? LockError }
    }

    private func mode(_ path: String) -> mode_t {
        var info = stat()
        return lstat(path, &info) == 0 ? info.st_mode & 0o777 : 0
    }

    @Test func `missing directories and the file are made for this user only`() async throws {
        let directory = self.sandbox.directory + "/state/holdfast"
        let store = SQLiteLockStore(path: directory + "/locks.db")
        let inbox = Inbox(store)
        #expect(try await store.acquire(request("a")).token != nil)
        #expect(self.mode(directory) == 0o700)
        #expect(self.mode(directory + "/locks.db") == 0o600)
        #expect(self.mode(directory + "/locks.db-wal") == 0o600)
        #expect(self.mode(directory + "/locks.db-signals") == 0o700)
        withExtendedLifetime(inbox) {}
    }

    @Test func `the default path follows the XDG specification`() {
        #expect(StorePath.defaultFile(["XDG_STATE_HOME": "/x", "HOME": "/h"]) == "/x/holdfast/locks.db")
        #expect(StorePath.defaultFile(["HOME": "/h"]) == "/h/.local/state/holdfast/locks.db")
        #expect(StorePath.defaultFile(["XDG_STATE_HOME": "x", "HOME": "/h"]) == "/h/.local/state/holdfast/locks.db")
        #expect(StorePath.defaultFile([:]) == nil)
    }

    @Test func `a symbolic link at the path is refused`() async throws {
        let victim = self.sandbox.directory + "/victim"
        try Data("precious".utf8).write(to: URL(fileURLWithPath: victim))
        try FileManager.default.createSymbolicLink(atPath: self.sandbox.file, withDestinationPath: victim)
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeRefused)
        #expect(try String(contentsOfFile: victim, encoding: .utf8) == "precious")
    }

    @Test func `a planted log is refused`() async throws {
        try FileManager.default.createSymbolicLink(
            atPath: self.sandbox.file + "-wal",
            withDestinationPath: self.sandbox.directory + "/victim"
        )
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeRefused)
    }

    @Test func `a directory that everybody may write to is refused`() async throws {
        chmod(self.sandbox.directory, 0o777)
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeRefused)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give a directory away"))
    func `a directory of another user is refused`() async throws {
        chown(self.sandbox.directory, 12345, 12345)
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeRefused)
    }

    @Test func `a file that is no database is corrupt and stays as it is`() async throws {
        let garbage = Data(repeating: 0x47, count: 8192)
        try garbage.write(to: URL(fileURLWithPath: self.sandbox.file))
        let failure = await self.failure(of: self.sandbox.store())
        #expect(failure?.code == .storeCorrupted)
        #expect(failure?.message.contains(self.sandbox.file) == true)
        #expect(try Data(contentsOf: URL(fileURLWithPath: self.sandbox.file)) == garbage)
    }

    @Test func `a database that breaks while it is used is corrupt, and a restored one works again`() async throws {
        let store = self.sandbox.store()
        for index in 0..<200 { _ = try await store.acquire(request(Resource(escaping: "\(index)"))) }
        try self.sandbox.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        let file = try #require(FileHandle(forUpdatingAtPath: self.sandbox.file))
        try file.seek(toOffset: 0)
        try file.write(contentsOf: Data(repeating: 0xFF, count: 65536))
        try file.close()
        let fresh = self.sandbox.store()
        #expect(await self.failure(of: fresh)?.code == .storeCorrupted)
        for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: self.sandbox.file + suffix) }
        #expect(try await fresh.acquire(request("a")).token != nil)
    }

    @Test func `a database of another program is refused`() async throws {
        try self.sandbox.sql("CREATE TABLE users (name TEXT)")
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeCorrupted)
        try self.sandbox.sql("PRAGMA user_version = 1")
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeCorrupted)
        #expect(try self.sandbox.sql("SELECT name FROM sqlite_master").count == 1)
    }

    @Test func `a newer schema asks for an upgrade`() async throws {
        #expect(await self.failure(of: self.sandbox.store()) == nil)
        try self.sandbox.sql("PRAGMA user_version = 99")
        let failure = await self.failure(of: self.sandbox.store())
        #expect(failure?.code == .storeCorrupted)
        #expect(failure?.message.contains("upgrade") == true)
    }

    @Test func `a file of an older program is taken over once nothing is held in it`() async throws {
        // Nobody has the file open any more.
        let token = try await self.tokenOfStoreThatIsGone(lease: .seconds(60))
        try self.sandbox.sql("PRAGMA user_version = 1")
        let failure = await self.failure(of: self.sandbox.store())
        #expect(failure?.code == .storeRefused)
        #expect(failure?.message.contains("older holdfast") == true)
        try self.sandbox.sql("UPDATE grants SET expires = 1")
        let next = try #require(try await self.sandbox.store().acquire(request("a")).token)
        #expect(next > token)
    }

    @Test func `a file that stays locked is unavailable within the limit`() async throws {
        let store = SQLiteLockStore(path: self.sandbox.file, busyLimit: .milliseconds(200))
        #expect(await self.failure(of: store) == nil)
        var configuration = Configuration()
        configuration.allowsUnsafeTransactions = true
        let blocker = try DatabaseQueue(path: self.sandbox.file, configuration: configuration)
        try await blocker.writeWithoutTransaction { try $0.execute(sql: "BEGIN IMMEDIATE") }
        let start = ContinuousClock.now
        #expect(await self.failure(of: store)?.code == .storeUnavailable)
        #expect(start.duration(to: .now) < .seconds(10))
        try await blocker.writeWithoutTransaction { try $0.execute(sql: "COMMIT") }
        #expect(try await store.acquire(request("b")).token != nil)
    }

    @Test func `a reboot voids every grant, and tokens go on rising`() async throws {
        let token = try await self.tokenOfStoreThatIsGone(lease: .seconds(3600))
        try self.sandbox.sql("UPDATE meta SET boot = 'another boot', token = \(token.rawValue + 1_000_000_000_000)")
        let after = self.sandbox.store()
        #expect(try await after.status(of: "a").isFree)
        let next = try #require(try await after.acquire(request("a")).token)
        #expect(next.rawValue > token.rawValue + 1_000_000_000_000)
    }

    private func tokenOfStoreThatIsGone(lease: Duration) async throws -> FencingToken {
        let store = self.sandbox.store()
        let token = try #require(try await store.acquire(request("a", lease: lease)).token)
        _ = try await store.acquire(request("a"))
        return token
    }

    @Test func `another boot id voids nothing while the file is in use`() async throws {
        let store = SQLiteLockStore(path: self.sandbox.file, busyLimit: .milliseconds(200))
        let held = request("a", lease: .seconds(3600))
        #expect(try await store.acquire(held).token != nil)
        try self.sandbox.sql("UPDATE meta SET boot = 'another boot'")
        let failure = await self.failure(of: SQLiteLockStore(path: self.sandbox.file, busyLimit: .milliseconds(200)))
        #expect(failure?.code == .storeRefused)
        #expect(failure?.message.contains("boot id") == true)
        #expect(
            try await store.renew([Renewal(key: held.key, lease: .seconds(1))]) == [.renewed(revokeRequested: false)]
        )
    }

    @Test func `a second store object does not drop the locks of the first on the file`() async throws {
        let first = self.sandbox.store()
        #expect(await self.failure(of: first) == nil)
        let second = self.sandbox.store()
        #expect(await self.failure(of: second) == nil)
        var info = stat()
        #expect(stat(self.sandbox.file, &info) == 0)
        let locks = try #require(SmallFile.text("/proc/locks", limit: 1 << 20))
        let own = locks.split(separator: "\n").filter { $0.contains("POSIX") && $0.contains(" \(getpid()) ") }
        #expect(own.contains { $0.contains(":\(info.st_ino) ") })
        withExtendedLifetime((first, second)) {}
    }

    @Test func `a file that others may write to is refused`() async throws {
        #expect(await self.failure(of: self.sandbox.store()) == nil)
        #expect(chmod(self.sandbox.file, 0o666) == 0)
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeRefused)
    }

    @Test func `a database of another program is not changed before it is refused`() async throws {
        try self.sandbox.sql("CREATE TABLE users (name TEXT)")
        let before = try Data(contentsOf: URL(fileURLWithPath: self.sandbox.file))
        #expect(await self.failure(of: self.sandbox.store())?.code == .storeCorrupted)
        #expect(try Data(contentsOf: URL(fileURLWithPath: self.sandbox.file)) == before)
    }

    @Test func `what dead holders left is swept out of the file though nobody asks for it`() async throws {
        let store = self.sandbox.store()
        for index in 0..<20 {
            _ = try await store.acquire(request(Resource(escaping: "\(index)"), lease: .milliseconds(100)))
        }
        try await Task.sleep(for: .milliseconds(150))
        _ = try await self.sandbox.store().acquire(request("other"))
        #expect(try self.sandbox.sql("SELECT resource FROM grants").count == 1)
    }

    @Test func `tokens rise even when the file was deleted under the store`() async throws {
        let store = self.sandbox.store()
        let held = request("a")
        let token = try #require(try await store.acquire(held).token)
        for suffix in ["", "-wal", "-shm"] { try FileManager.default.removeItem(atPath: self.sandbox.file + suffix) }
        #expect(try await store.renew([Renewal(key: held.key, lease: .seconds(1))]) == [.lost(.expired)])
        #expect(try #require(try await self.sandbox.store().acquire(request("a")).token) > token)
        #expect(try await store.acquire(request("a", contention: .fail)).isBusy)
    }

    @Test func `many store objects may make the file at once`() async throws {
        for round in 0..<10 {
            let path = self.sandbox.directory + "/\(round)/locks.db"
            let tokens = try await withThrowingTaskGroup(of: FencingToken?.self) { group in
                for index in 0..<8 {
                    group.addTask {
                        try await SQLiteLockStore(path: path).acquire(request(Resource(escaping: "\(index)"))).token
                    }
                }
                return try await group.reduce(into: Set()) { $0.insert($1) }
            }
            #expect(tokens.count == 8)
            #expect(!tokens.contains(nil))
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can mount"))
    func `a read-only file system refuses`() async throws {
        let mount = self.sandbox.directory + "/frozen"
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
        try run("/bin/mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", mount)
        defer { try? run("/bin/umount", "-l", mount) }
        do { _ = try await SQLiteLockStore(path: mount + "/locks.db").status(of: "a") }
        try run("/bin/mount", "-o", "bind", mount, mount)
        defer { try? run("/bin/umount", "-l", mount) }
        try run("/bin/mount", "-o", "remount,ro,bind", mount)
        #expect(await self.failure(of: SQLiteLockStore(path: mount + "/locks.db"))?.code == .storeRefused)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can mount"))
    func `a full disk refuses, and room makes it work again`() async throws {
        let mount = self.sandbox.directory + "/small"
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
        try run("/bin/mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", mount)
        defer { try? run("/bin/umount", "-l", mount) }
        let store = SQLiteLockStore(path: mount + "/locks.db")
        #expect(await self.failure(of: store) == nil)
        let filler = mount + "/filler"
        _ = FileManager.default.createFile(atPath: filler, contents: nil)
        let handle = try #require(FileHandle(forWritingAtPath: filler))
        while (try? handle.write(contentsOf: Data(repeating: 1, count: 4096))) != nil {}
        var refusals: [LockError.Code] = []
        for index in 0..<50 {
            do { _ = try await store.acquire(request(Resource(escaping: "full/\(index)"))) } catch {
                refusals.append((error as? LockError)?.code ?? .lost)
            }
        }
        #expect(!refusals.isEmpty)
        #expect(refusals.allSatisfy { $0 == .storeRefused })
        try handle.close()
        try FileManager.default.removeItem(atPath: filler)
        #expect(try await store.acquire(request("room")).token != nil)
    }

    @Test func `diagnosis names what is good and what is not`() async throws {
        let findings = await self.sandbox.store().diagnose()
        #expect(findings.contains { $0.name == "integrity" && $0.value == "ok" })
        #expect(findings.contains { $0.name == "lock and release" && $0.severity != .problem })
        #expect(findings.allSatisfy { $0.severity != .problem })
        chmod(self.sandbox.file, 0o644)
        let open = await self.sandbox.store().diagnose()
        #expect(open.contains { $0.severity == .warning && $0.advice?.contains("chmod 600") == true })
        try Data(repeating: 1, count: 4096).write(to: URL(fileURLWithPath: self.sandbox.directory + "/bad.db"))
        let bad = await SQLiteLockStore(path: self.sandbox.directory + "/bad.db").diagnose()
        #expect(bad.last?.severity == .problem)
    }

    private func run(_ program: String, _ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(program) failed")
    }
}
