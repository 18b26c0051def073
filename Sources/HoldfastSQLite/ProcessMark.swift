// SPDX-License-Identifier: Apache-2.0

import Foundation

/// What tells a process from every other one of this boot: pid, start time, and the namespace in which the pid counts.
struct ProcessMark: Sendable, Hashable {
    /// The process id.
    var pid: Int64
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    var started: Int64
    /// The namespaces in which pids and start times count, or empty when nobody can judge whether the process lives; then only the lease counts.
    var namespace: String

    /// The process that runs this.
    ///
    /// When `/proc` shows other pids than this process sees (another namespace's mount), the mark has no namespace.
    static let current: ProcessMark = {
        let pid = Int64(getpid())
        guard let own = Status(pid: "self"), own.pid == pid, let seen = Status(pid: String(pid)),
            seen.started == own.started, let namespace = SmallFile.link("/proc/self/ns/pid")
        else { return ProcessMark(pid: pid, started: 0, namespace: "") }
        // In another time namespace the same process has another start time. Old kernels have none.
        let time = SmallFile.link("/proc/self/ns/time") ?? ""
        return ProcessMark(pid: pid, started: own.started, namespace: namespace + time)
    }()

    /// Whether it is certain that this process is gone.
    ///
    /// Stopped and slow processes are not gone; zombies are. A process of another namespace is never judged.
    var isDead: Bool {
        let current = Self.current
        guard !self.namespace.isEmpty, self.namespace == current.namespace, self.pid > 0 else { return false }
        if self.pid == current.pid { return self.started != current.started }
        guard let pid = pid_t(exactly: self.pid) else { return false }
        if kill(pid, 0) != 0, errno == ESRCH { return true }
        // With hidepid, /proc may hide a process that lives: not to be seen is not dead.
        guard let status = Status(pid: String(self.pid)) else { return false }
        return status.started != self.started || status.isZombie
    }

    /// The fields of `/proc/PID/stat` that matter here.
    private struct Status {
        let pid: Int64
        let started: Int64
        let isZombie: Bool

        init?(pid: String) {
            guard let text = SmallFile.text("/proc/\(pid)/stat"),
                let number = text.split(separator: " ").first.flatMap({ Int64($0) }),
                // The program's name stands in parentheses and may contain anything.
                let end = text.utf8.lastIndex(of: UInt8(ascii: ")"))
            else { return nil }
            let fields = text.utf8[text.utf8.index(after: end)...].split(separator: UInt8(ascii: " "))
            guard fields.count >= 20, let started = Int64(Substring(fields[19])),
                let threads = Int64(Substring(fields[17])), let state = fields.first?.first
            else { return nil }
            self.pid = number
            self.started = started
            // A main thread that ended before the others looks like a zombie, but still counts its threads.
            self.isZombie = (state == UInt8(ascii: "Z") || state == UInt8(ascii: "X")) && threads <= 1
        }
    }
}
