// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import HoldfastCore

/// Says what went wrong with the file in the words of ``LockError``.
enum StoreFailure {
    /// Turns any error of the database into one for people.
    ///
    /// - Parameters:
    ///   - error: What was thrown.
    ///   - path: The database file.
    /// - Returns: The error for the caller.
    static func lockError(_ error: any Error, path: String) -> LockError {
        if let error = error as? LockError { return error }
        guard let error = error as? DatabaseError else {
            return LockError(.storeUnavailable, "the lock file \(path) cannot be used", underlying: error)
        }
        let (code, message) = Self.explanation(of: error, path: path)
        return LockError(code, message, underlying: error)
    }

    private static func explanation(of error: DatabaseError, path: String) -> (LockError.Code, String) {
        switch error.resultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            return (.storeUnavailable, "another process keeps the lock file \(path) locked; try again or stop it")
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            return (
                .storeCorrupted,
                "the lock file \(path) is not a usable SQLite database; stop the processes that use it and move it away"
            )
        case .SQLITE_READONLY:
            return (.storeRefused, "the lock file \(path) or its directory is read-only; make both writable")
        case .SQLITE_FULL:
            return (.storeRefused, "the disk that holds the lock file \(path) is full; make room")
        case .SQLITE_PERM, .SQLITE_AUTH:
            return (.storeRefused, "no permission to use the lock file \(path); check its owner and mode")
        case .SQLITE_CANTOPEN:
            return Self.explanationOfOpening(path)
        case .SQLITE_NOMEM:
            return (.storeUnavailable, "out of memory while using the lock file \(path)")
        case .SQLITE_SCHEMA, .SQLITE_ERROR:
            return (
                .storeCorrupted,
                "the lock file \(path) has unexpected contents (\(error.message ?? "no details")); move it away"
            )
        case .SQLITE_IOERR:
            return (.storeUnavailable, "reading or writing the lock file \(path) failed; check the disk")
        default:
            return (.storeUnavailable, "the lock file \(path) cannot be used: \(error.message ?? "no details")")
        }
    }

    /// SQLite does not say why it could not open a file; trying it does.
    private static func explanationOfOpening(_ path: String) -> (LockError.Code, String) {
        // Asked without opening it: closing would drop the locks that this process has on the file.
        guard access(path, R_OK | W_OK) != 0 else {
            return (
                .storeUnavailable,
                "the lock file \(path) or its -wal file cannot be opened; check the directory's mode and free descriptors"
            )
        }
        return Self.explanation(ofErrno: errno, path: path)
    }

    /// Explains a failed system call on the file or its directory.
    static func explanation(ofErrno reason: Int32, path: String) -> (LockError.Code, String) {
        switch reason {
        case EMFILE, ENFILE:
            return (
                .storeUnavailable, "no file descriptor is free for the lock file \(path); raise the limit (ulimit -n)"
            )
        case ELOOP:
            return (
                .storeRefused, "the lock file \(path) is a symbolic link, which is not followed; name the file itself"
            )
        case EACCES, EPERM:
            return (
                .storeRefused, "no permission to use \(path); check the owner and mode of the file and its directory"
            )
        case EROFS:
            return (.storeRefused, "\(path) is on a read-only file system; choose another path")
        case ENOSPC, EDQUOT:
            return (.storeRefused, "the disk that holds \(path) is full; make room")
        default:
            return (.storeUnavailable, "\(path) cannot be opened: \(String(cString: strerror(reason)))")
        }
    }

    /// An error for a failed system call.
    static func systemError(_ reason: Int32, path: String) -> LockError {
        let (code, message) = Self.explanation(ofErrno: reason, path: path)
        return LockError(code, message)
    }
}
