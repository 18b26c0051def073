// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What the demo caches: an index of the files below a directory, with their sizes and lines.
package enum DemoIndex {
    /// The most files that are read: enough for a demo.
    private static let maximumFiles = 2000

    /// Reads the files and describes them, a line for each and a sum.
    ///
    /// - Parameters:
    ///   - directory: Where to look.
    ///   - pace: Called after each file, for making it take a while.
    /// - Returns: The index.
    package static func build(of directory: String, pace: (_ done: Int, _ total: Int) async -> Void) async -> String {
        var paths: [String] = []
        Self.collect(directory, into: &paths)
        paths.sort()
        var (text, sum, lines) = ("", 0, 0)
        for (index, path) in paths.enumerated() {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            if descriptor >= 0, let bytes = try? Self.bytes(from: descriptor) {
                let count = bytes.reduce(0) { $1 == UInt8(ascii: "\n") ? $0 + 1 : $0 }
                text += "\(path) \(bytes.count) \(count)\n"
                sum += bytes.count
                lines += count
            }
            if descriptor >= 0 { close(descriptor) }
            await pace(index + 1, paths.count)
        }
        return "\(paths.count) files, \(sum) bytes, \(lines) lines\n\(text)"
    }

    private static func collect(_ directory: String, into paths: inout [String]) {
        for name in ScratchDirectory.entries(of: directory) where !name.hasPrefix(".") {
            guard paths.count < Self.maximumFiles else { return }
            let path = "\(directory)/\(name)"
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR { Self.collect(path, into: &paths) }
            if status.st_mode & S_IFMT == S_IFREG { paths.append(path) }
        }
    }

    /// All bytes of an open file.
    package static func bytes(from descriptor: Int32) throws -> [UInt8] {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw CommandFailure(ExitStatus.unavailable, "cannot read a file: \(Errno.text)")
        }
        // A file that grows meanwhile is cut, one that shrinks ends early.
        return [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            while count < buffer.count {
                let more = read(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count)
                if more <= 0 { break }
                count += more
            }
        }
    }
}
