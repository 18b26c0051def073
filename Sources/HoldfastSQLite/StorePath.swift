// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore

/// The database file: where it is, and whether it is safe to use.
///
/// Whoever may write to the file or replace it may take any lock and read the secrets of grants, so it must belong to
/// this user, in a directory where nobody else can exchange it.
package struct StorePath: Sendable {
    /// The absolute path, or `nil` when neither `XDG_STATE_HOME` nor `HOME` says where to put it.
    let file: String?

    /// Takes a path, or finds the default one.
    ///
    /// - Parameter path: A path; relative ones start at the working directory as of now.
    init(_ path: String?) {
        guard let path, !path.isEmpty else {
            self.file = Self.defaultFile(ProcessInfo.processInfo.environment)
            return
        }
        self.file = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }

    /// `$XDG_STATE_HOME/holdfast/locks.db`, else `~/.local/state/holdfast/locks.db`.
    ///
    /// As the XDG Base Directory Specification says, a relative `XDG_STATE_HOME` is ignored.
    package static func defaultFile(_ environment: [String: String]) -> String? {
        if let state = environment["XDG_STATE_HOME"], state.hasPrefix("/") { return state + "/holdfast/locks.db" }
        guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
        return home + "/.local/state/holdfast/locks.db"
    }

    /// Makes the directory (0700) and the file (0600) where they are missing, and checks what is there.
    ///
    /// - Returns: The file's path.
    /// - Throws: `LockError`.
    func prepared() throws(LockError) -> String {
        guard let file = self.file else {
            throw LockError(
                .storeRefused,
                "neither XDG_STATE_HOME nor HOME is set; give the store a path or set one of them"
            )
        }
        let directory = Self.directory(of: file)
        try Self.makeDirectory(directory)
        try Self.checkDirectory(directory)
        for sibling in [file + "-wal", file + "-shm"] { try Self.checkFile(sibling, mayBeMissing: true) }
        // A file that is there is not opened: closing it again would drop all locks that this process has on it, as
        // fcntl(2) says, those of another store object too.
        if Self.identity(of: file) == nil {
            let descriptor = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard descriptor >= 0 || errno == EEXIST else { throw StoreFailure.systemError(errno, path: file) }
            if descriptor >= 0 { close(descriptor) }
        }
        try Self.checkFile(file, mayBeMissing: false)
        return file
    }

    /// The directory part of an absolute path.
    static func directory(of file: String) -> String {
        guard let slash = file.lastIndex(of: "/"), slash != file.startIndex else { return "/" }
        return String(file[..<slash])
    }

    /// Tells files apart even when one took another's place.
    static func identity(of path: String) -> FileIdentity? {
        var info = stat()
        guard lstat(path, &info) == 0 else { return nil }
        return FileIdentity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    private static func makeDirectory(_ path: String) throws(LockError) {
        var info = stat()
        if stat(path, &info) == 0 { return }
        let parent = Self.directory(of: path)
        if parent != path { try Self.makeDirectory(parent) }
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw StoreFailure.systemError(errno, path: path) }
    }

    private static func checkDirectory(_ path: String) throws(LockError) {
        var info = stat()
        guard stat(path, &info) == 0 else { throw StoreFailure.systemError(errno, path: path) }
        guard info.st_mode & S_IFMT == S_IFDIR else {
            throw LockError(.storeRefused, "\(path) is not a directory; choose another path for the lock file")
        }
        let isSticky = info.st_mode & S_ISVTX != 0
        guard info.st_uid == geteuid() || (info.st_uid == 0 && isSticky) else {
            throw LockError(
                .storeRefused,
                "the directory \(path) belongs to user \(info.st_uid), not to \(geteuid()); choose one of your own"
            )
        }
        guard info.st_mode & 0o002 == 0 || isSticky else {
            throw LockError(.storeRefused, "everybody may write to the directory \(path); run chmod 700 on it")
        }
        try Self.checkFileSystem(path)
    }

    /// A file on the network has locks and shared memory of its own on each machine.
    private static func checkFileSystem(_ path: String) throws(LockError) {
        guard FileSystemKind(of: path)?.isNetwork == true else { return }
        throw LockError(
            .storeRefused,
            "\(path) is on a network file system, where SQLite cannot coordinate; choose a local path, or the Redis store"
        )
    }

    private static func checkFile(_ path: String, mayBeMissing: Bool) throws(LockError) {
        var info = stat()
        guard lstat(path, &info) == 0 else {
            if mayBeMissing, errno == ENOENT { return }
            throw StoreFailure.systemError(errno, path: path)
        }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw LockError(
                .storeRefused,
                "\(path) is a symbolic link or no regular file; it is not used, name the file itself"
            )
        }
        guard info.st_uid == geteuid() || geteuid() == 0 else {
            throw LockError(
                .storeRefused,
                "\(path) belongs to user \(info.st_uid), not to \(geteuid()); choose a path of your own"
            )
        }
        guard info.st_mode & 0o022 == 0 else {
            throw LockError(.storeRefused, "others may write to \(path), and so take any lock; run chmod 600 on it")
        }
    }
}

/// Which file a path leads to.
struct FileIdentity: Sendable, Hashable {
    let device: UInt64
    let inode: UInt64
}
