// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
public import HoldfastCore

/// What `holdfast doctor` asks.
extension SQLiteLockStore: DiagnosableStore {
    /// How many times the probe lock is taken: enough for a median.
    private static let probes = 21
    /// A lock and its release should take well below a millisecond; slower than this, something is wrong.
    private static let slowProbe: Duration = .milliseconds(20)
    /// A file this large, in bytes, holds hundreds of thousands of rows.
    private static let largeFile = 256 << 20

    /// Looks at the file, its permissions, its health, and how long a lock takes.
    ///
    /// Takes and releases a lock on a name of its own. Reads the whole file once.
    ///
    /// - Returns: What was found, the most basic things first.
    public func diagnose() async -> [Finding] {
        var findings = [
            Finding(
                name: "lock file",
                value: self.path ?? "none",
                severity: self.path == nil ? .problem : .ok,
                advice: self.path == nil ? "Set HOME or XDG_STATE_HOME, or give a path." : nil
            )
        ]
        do {
            let rows = try await self.inspect { try Int.fetchOne($0, sql: "SELECT count(*) FROM grants") ?? 0 }
            findings.append(Finding(name: "grants stored", value: String(rows)))
        } catch {
            let failure = StoreFailure.lockError(error, path: self.path ?? "")
            findings.append(
                Finding(
                    name: "opening",
                    value: failure.message,
                    severity: .problem,
                    advice: "Do what the message says."
                )
            )
            return findings
        }
        guard let path = self.path else { return findings }
        findings.append(self.fileSystem(of: path))
        findings += [
            self.permissions(of: path), self.permissions(of: StorePath.directory(of: path)), self.size(of: path),
        ]
        findings.append(await self.integrity())
        findings.append(self.sockets(beside: path))
        findings.append(self.processes())
        findings.append(await self.latency())
        return findings
    }

    private func fileSystem(of path: String) -> Finding {
        let kind = FileSystemKind(of: path)
        return Finding(
            name: "file system",
            value: kind?.name ?? "unknown",
            severity: kind?.isNetwork == true ? .problem : .ok,
            advice: kind?.isNetwork == true
                ? "Choose a path on a local disk: SQLite cannot coordinate over a network." : nil
        )
    }

    private func permissions(of path: String) -> Finding {
        var info = stat()
        guard stat(path, &info) == 0 else {
            return Finding(
                name: "permissions of \(path)",
                value: "unknown",
                severity: .problem,
                advice: "Check that it exists."
            )
        }
        let mode = info.st_mode & 0o777
        let isOpen = mode & 0o077 != 0 && info.st_mode & S_IFMT == S_IFREG || mode & 0o022 != 0
        let wanted = info.st_mode & S_IFMT == S_IFREG ? "600" : "700"
        return Finding(
            name: "permissions of \(path)",
            value: "0" + String(mode, radix: 8) + ", user \(info.st_uid)",
            severity: isOpen ? .warning : .ok,
            advice: isOpen ? "Other users may read grants or take locks: chmod \(wanted) \(path)" : nil
        )
    }

    private func size(of path: String) -> Finding {
        let bytes = [path, path + "-wal"].reduce(into: 0) { sum, file in
            var info = stat()
            if stat(file, &info) == 0 { sum += Int(info.st_size) }
        }
        return Finding(
            name: "size with log",
            value: "\(bytes / 1024) KiB",
            severity: bytes > Self.largeFile ? .warning : .ok,
            advice: bytes > Self.largeFile ? "Look with `holdfast ls` for locks that nobody releases." : nil
        )
    }

    private func integrity() async -> Finding {
        let answer = try? await self.inspect { try String.fetchOne($0, sql: "PRAGMA quick_check(1)") }
        return Finding(
            name: "integrity",
            value: answer ?? "could not be checked",
            severity: answer == "ok" ? .ok : .problem,
            advice: answer == "ok" ? nil : "Stop the processes that use the file and move it away."
        )
    }

    private func sockets(beside path: String) -> Finding {
        let stale = SignalSocket.stale(in: path + SignalSocket.suffix).count
        return Finding(
            name: "sockets of dead processes",
            value: String(stale),
            // The next process that listens removes them.
            severity: stale > 1000 ? .warning : .ok,
            advice: stale > 1000 ? "Remove the files in \(path)\(SignalSocket.suffix) that nobody listens on." : nil
        )
    }

    private func processes() -> Finding {
        let isJudged = !ProcessMark.current.namespace.isEmpty
        return Finding(
            name: "dead processes",
            value: isJudged ? "told at once" : "told by their lease only",
            severity: isJudged ? .ok : .warning,
            advice: isJudged ? nil : "Mount /proc of this pid namespace."
        )
    }

    private func latency() async -> Finding {
        var times: [Duration] = []
        var generator = SystemRandomNumberGenerator()
        let name = "holdfast-doctor/\(Hex.text(of: generator.next()))"
        for _ in 0..<Self.probes {
            let start = ContinuousClock.now
            guard let resource = try? Resource(name), await self.probe(resource) else { continue }
            times.append(start.duration(to: .now))
        }
        guard !times.isEmpty else {
            return Finding(
                name: "lock and release",
                value: "failed",
                severity: .problem,
                advice: "Try `holdfast run` on any name and read its message."
            )
        }
        let median = times.sorted()[times.count / 2]
        return Finding(
            name: "lock and release",
            value: "\(median.nanoseconds / 1000) µs (median of \(times.count))",
            severity: median > Self.slowProbe ? .warning : .ok,
            advice: median > Self.slowProbe ? "Move the file to a faster disk, or look for what keeps it locked." : nil
        )
    }

    private func probe(_ resource: Resource) async -> Bool {
        var generator = SystemRandomNumberGenerator()
        let mark = ProcessMark.current
        let process = ProcessIdentity(
            instance: generator.next(),
            host: "",
            pid: Int32(truncatingIfNeeded: mark.pid),
            started: UInt64(bitPattern: mark.started),
            program: "holdfast-doctor"
        )
        let request = LockRequest(
            id: RequestID(using: &generator),
            resource: resource,
            owner: OwnerID(process: process, serial: 1),
            lease: .seconds(10),
            contention: .fail
        )
        guard case .granted? = try? await self.acquire(request) else { return false }
        return (try? await self.release(request.key)) == .released
    }
}
