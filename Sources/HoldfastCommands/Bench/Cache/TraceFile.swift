// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Keys in a file: 32 bits each, little-endian, one after the other.
package enum TraceFile {
    /// Reads the keys.
    ///
    /// - Parameter path: The file.
    /// - Returns: The keys, at least one.
    /// - Throws: ``CommandFailure`` when it cannot be read or is not such a file.
    package static func keys(of path: String) throws -> [UInt32] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot read \(path): \(Errno.text)")
        }
        defer { close(descriptor) }
        let bytes = try DemoIndex.bytes(from: descriptor)
        guard !bytes.isEmpty, bytes.count.isMultiple(of: 4) else {
            throw CommandFailure(ExitStatus.configuration, "\(path) is not a list of keys of 32 bits each")
        }
        return stride(from: 0, to: bytes.count, by: 4).map { place in
            (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
        }
    }
}
