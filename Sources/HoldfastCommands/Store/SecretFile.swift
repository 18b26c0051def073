// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Small files that hold secrets: readable by their owner only, written in one step.
package enum SecretFile {
    /// The most bytes that are read: a grant or a URL has far fewer.
    private static let maximumLength = 65_536

    /// The whole text of a file that nobody else may read.
    ///
    /// - Parameter path: The file.
    /// - Returns: Its text.
    /// - Throws: ``CommandFailure``.
    package static func text(of path: String) throws -> String {
        let shown = TerminalText.escaped(path)
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot read \(shown): \(Errno.text)")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot read \(shown): \(Errno.text)")
        }
        guard status.st_mode & S_IFMT != S_IFREG || status.st_mode & 0o077 == 0 else {
            throw CommandFailure(ExitStatus.configuration, "\(shown) can be read by others; run: chmod 600 \(shown)")
        }
        return try Self.text(from: descriptor, named: shown)
    }

    /// The first line of such a file, without white space around it.
    package static func line(of path: String) throws -> String {
        let line = try Self.text(of: path).prefix { $0 != "\n" && $0 != "\r\n" }
        return String(line.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }

    /// All that can be read from a descriptor.
    package static func text(from descriptor: Int32, named name: String) throws -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw CommandFailure(ExitStatus.configuration, "cannot read \(name): \(Errno.text)")
            }
            guard count > 0 else { break }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= Self.maximumLength else {
                throw CommandFailure(ExitStatus.configuration, "\(name) is too long to be a grant or a URL")
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Replaces a file in one step, readable by its owner only; what is no regular file is written to.
    ///
    /// - Throws: ``CommandFailure``; a regular file is then untouched.
    package static func write(_ text: String, to path: String) throws {
        switch Self.kind(of: path) {
        case nil, S_IFREG: try Self.replace(path, with: text)
        case S_IFLNK:
            guard let target = realpath(path, nil) else {
                throw CommandFailure(
                    ExitStatus.configuration,
                    "cannot write \(TerminalText.escaped(path)): it is a link to nothing"
                )
            }
            defer { free(target) }
            try Self.write(text, to: String(cString: target))
        default:
            let descriptor = Glibc.open(path, O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else {
                throw CommandFailure(
                    ExitStatus.configuration,
                    "cannot write \(TerminalText.escaped(path)): \(Errno.text)"
                )
            }
            defer { close(descriptor) }
            try Output.write(text, to: descriptor)
        }
    }

    /// Removes a file, unless it is something else than a regular file.
    package static func remove(_ path: String) {
        if Self.kind(of: path) == S_IFREG { unlink(path) }
    }

    private static func kind(of path: String) -> mode_t? {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode & S_IFMT : nil
    }

    private static func replace(_ path: String, with text: String) throws {
        let temporary = "\(path).\(getpid()).tmp"
        let shown = TerminalText.escaped(path)
        let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot write \(shown): \(Errno.text)")
        }
        do {
            defer { close(descriptor) }
            try Output.write(text, to: descriptor)
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            let problem = Errno.text
            unlink(temporary)
            throw CommandFailure(ExitStatus.configuration, "cannot write \(shown): \(problem)")
        }
    }
}
