// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import Synchronization

/// A server program that runs beside a test and never outlives it.
///
/// A watcher holds one end of a pipe of ours; when this process dies, however it dies, the watcher kills the child.
/// (`PDEATHSIG` would not do: it fires when the *thread* that started the child ends.)
package final class ChildProcess: Sendable {
    private let isReaped = Mutex(false)
    private let watcher: pid_t
    private let lifeline: Int32
    /// The process id.
    package let pid: Int32

    /// Starts a program with its output discarded.
    ///
    /// - Parameters:
    ///   - program: The path.
    ///   - arguments: The arguments after the program's name.
    /// - Throws: ``LockError`` when it cannot be started.
    package init(_ program: String, _ arguments: [String]) throws {
        self.pid = try Self.spawn([program] + arguments, input: nil)
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0, fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0, fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0
        else {
            _ = Glibc.kill(self.pid, SIGKILL)
            throw LockError(.storeUnavailable, "no pipe: error \(errno)")
        }
        self.lifeline = ends[1]
        do {
            self.watcher = try Self.spawn(["/bin/sh", "-c", "read line; kill -9 \(self.pid)"], input: ends[0])
        } catch {
            _ = Glibc.kill(self.pid, SIGKILL)
            throw error
        }
        close(ends[0])
    }

    deinit { self.kill() }

    /// Finds a program in `PATH` and where Debian keeps servers.
    package static func find(_ name: String) -> String? {
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        let directories = path.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        return directories.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// Whether the child has ended by itself.
    package var hasExited: Bool {
        self.isReaped.withLock { isReaped in
            if !isReaped, waitpid(self.pid, nil, WNOHANG) == self.pid { isReaped = true }
            return isReaped
        }
    }

    /// Sends a signal, unless the child is gone.
    package func signal(_ signal: Int32) {
        self.isReaped.withLock { isReaped in
            if !isReaped { _ = Glibc.kill(self.pid, signal) }
        }
    }

    /// Kills the child and waits for its end.
    ///
    /// May be called again.
    package func kill() {
        self.isReaped.withLock { isReaped in
            guard !isReaped else { return }
            _ = Glibc.kill(self.pid, SIGKILL)
            while waitpid(self.pid, nil, 0) == -1, errno == EINTR {}
            isReaped = true
        }
        // The watcher must go before the lifeline, or it would kill whoever has the pid now.
        _ = Glibc.kill(self.watcher, SIGKILL)
        if waitpid(self.watcher, nil, 0) == self.watcher { close(self.lifeline) }
    }

    private static func spawn(_ command: [String], input: Int32?) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        // A connection of the test process that a child has too is not closed before the child is: the server would go on
        // sending messages to a store that is gone.
        for descriptor: Int32 in 3..<1024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A group of its own, so that a Ctrl-C at the test run does not reach the child before we stop it.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        posix_spawnattr_setpgroup(&attributes, 0)

        var pointers: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var pid: pid_t = 0
        let result = posix_spawn(&pid, command[0], &actions, &attributes, pointers, environ)
        guard result == 0 else { throw LockError(.storeUnavailable, "cannot start \(command[0]): error \(result)") }
        return pid
    }
}
