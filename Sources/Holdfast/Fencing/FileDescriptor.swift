// SPDX-License-Identifier: Apache-2.0

package import Foundation
package import HoldfastCore

/// An open file that closes itself.
///
/// Blocking; used off the cooperative pool.
package struct FileDescriptor: ~Copyable {
    /// What the system calls it.
    package let rawValue: Int32
    private let path: String

    /// Opens a file; makes it with mode 0600 when the flags say so.
    ///
    /// The last part of the path is no symbolic link, unless that is allowed.
    package init(opening path: String, flags: Int32, followsLinks: Bool = false) throws(LockError) {
        self.rawValue = open(path, flags | O_CLOEXEC | (followsLinks ? 0 : O_NOFOLLOW), 0o600)
        self.path = path
        guard self.rawValue >= 0 else { throw Self.failure("open", path) }
    }

    /// Opens a file, or gives `nil` when there is none.
    package init?(ifExists path: String, flags: Int32) throws(LockError) {
        self.rawValue = open(path, flags | O_CLOEXEC | O_NOFOLLOW)
        self.path = path
        if self.rawValue < 0, errno == ENOENT { return nil }
        guard self.rawValue >= 0 else { throw Self.failure("open", path) }
    }

    deinit {
        if self.rawValue >= 0 { close(self.rawValue) }
    }

    /// Whether the path still leads to this file.
    package func isStill(at path: String) -> Bool {
        var (own, found) = (stat(), stat())
        guard fstat(self.rawValue, &own) == 0, lstat(path, &found) == 0 else { return false }
        return own.st_dev == found.st_dev && own.st_ino == found.st_ino
    }

    /// Writes all bytes.
    ///
    /// A limit for the size of files is an error like a full disk. Whoever writes beyond it gets SIGXFSZ, which ends the
    /// process unless somebody thought of it: it is held back from this thread, and taken away.
    package func write(_ bytes: Data) throws(LockError) {
        var (held, before) = (sigset_t(), sigset_t())
        sigemptyset(&held)
        sigaddset(&held, SIGXFSZ)
        pthread_sigmask(SIG_BLOCK, &held, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(self.rawValue, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let failure = Self.failure("write", self.path)
                var now = timespec()
                if sigismember(&before, SIGXFSZ) == 0 { sigtimedwait(&held, nil, &now) }
                throw failure
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Reads to the end.
    package func readAll(limit: Int) throws(LockError) -> Data {
        var info = stat()
        guard fstat(self.rawValue, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            throw LockError(.storeRefused, "\(self.path) is not a regular file")
        }
        var bytes = Data()
        var chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count <= limit {
            let count = read(self.rawValue, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure("read", self.path) }
            if count == 0 { break }
            bytes.append(contentsOf: chunk.prefix(count))
        }
        return bytes
    }

    /// An error of the last system call.
    package static func failure(_ verb: String, _ path: String) -> LockError {
        let reason = errno
        let refusals = [EACCES, EPERM, EROFS, ELOOP, ENOSPC, EDQUOT, EISDIR, ENOENT, ENOTDIR, EFBIG]
        return LockError(
            refusals.contains(reason) ? .storeRefused : .storeUnavailable,
            "cannot \(verb) \(path): \(reason == ELOOP ? "it is a symbolic link" : String(cString: strerror(reason)))"
        )
    }
}
