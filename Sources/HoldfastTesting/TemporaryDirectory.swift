// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore

/// Private directories for tests.
package enum TemporaryDirectory {
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
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Removes a file, or a directory with all that is in it.
    ///
    /// - Parameter path: The path.
    package static func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != ".", name != ".." { Self.remove("\(path)/\(name)") }
            }
            closedir(directory)
        }
        _ = Glibc.remove(path)
    }
}
