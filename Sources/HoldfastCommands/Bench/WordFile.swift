// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Files of 64-bit numbers, between processes of one machine.
package enum WordFile {
    /// Writes numbers to a new file.
    ///
    /// - Throws: ``CommandFailure``.
    package static func write(_ words: [Int64], to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.failure("write", path) }
        defer { close(descriptor) }
        try words.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                guard count > 0 else { throw Self.failure("write", path) }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// Reads all numbers of a file.
    ///
    /// - Throws: ``CommandFailure``.
    package static func read(_ path: String) throws -> [Int64] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure("read", path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.failure("read", path) }
        var words = [Int64](repeating: 0, count: Int(status.st_size) / 8)
        try words.withUnsafeMutableBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.read(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                guard count > 0 else { throw Self.failure("read", path) }
                done += count
            }
        }
        return words
    }

    private static func failure(_ verb: String, _ path: String) -> CommandFailure {
        CommandFailure(ExitStatus.unavailable, "cannot \(verb) \(TerminalText.escaped(path)): \(Errno.text)")
    }
}
