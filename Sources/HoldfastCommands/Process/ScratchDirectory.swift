// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A private directory that is gone afterwards.
package enum ScratchDirectory {
    /// Makes a directory, runs work with it, and removes it with all that is in it.
    package static func with<Result: Sendable>(
        _ work: (_ path: String) async throws -> Result
    ) async throws -> Result {
        let base = Environment.process["TMPDIR"].flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
        var template = Array("\(base)/holdfast-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw CommandFailure(ExitStatus.unavailable, "no scratch directory in \(base): \(Errno.text)")
        }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { Self.remove(path) }
        return try await work(path)
    }

    private static func remove(_ path: String) {
        for name in Self.entries(of: path) { Self.remove("\(path)/\(name)") }
        _ = Glibc.remove(path)
    }

    /// The names in a directory, without itself and its parent; empty for anything else.
    ///
    /// Links are not followed.
    package static func entries(of path: String) -> [String] {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0, let directory = fdopendir(descriptor) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
