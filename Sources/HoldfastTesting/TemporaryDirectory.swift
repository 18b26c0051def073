// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import Synchronization

/// Private directories for tests.
///
/// What is still there when the process ends in an orderly way is removed then: servers that all tests share have no other
/// end.
package enum TemporaryDirectory {
    private static let present = Mutex<Set<String>>([])
    private static let isRemovedAtExit: Bool =
        atexit {
            for path in TemporaryDirectory.present.withLock({ $0 }) { TemporaryDirectory.remove(path) }
        } == 0

    /// Makes a new directory that only this user can enter.
    ///
    /// - Parameters:
    ///   - prefix: The start of its name.
    ///   - base: Where to make it, or `nil` for the usual place.
    /// - Returns: Its path.
    /// - Throws: ``LockError`` when it cannot be made.
    package static func make(prefix: String, in base: String? = nil) throws -> String {
        let base = base ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/\(prefix)XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw LockError(.storeUnavailable, "no temporary directory in \(base): error \(errno)")
        }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        if Self.isRemovedAtExit { self.present.withLock { _ = $0.insert(path) } }
        return path
    }

    /// Removes a file, or a directory with all that is in it.
    ///
    /// - Parameter path: The path.
    package static func remove(_ path: String) {
        var facts = stat()
        // A link is removed itself, and not where it leads.
        if lstat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR, let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != ".", name != ".." { Self.remove("\(path)/\(name)") }
            }
            closedir(directory)
        }
        _ = Glibc.remove(path)
        self.present.withLock { _ = $0.remove(path) }
    }
}
