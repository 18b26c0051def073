// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A file or stdin, read line by line without holding a thread while nothing comes; for one task.
package final class InputReader {
    /// A line without its end.
    package enum Line: Sendable, Hashable {
        /// Its bytes.
        case bytes([UInt8])
        /// It has more bytes than a line may have; what it says is not kept.
        case tooLong
    }

    /// How many bytes are read at once.
    private static let chunk = 1 << 16
    /// Between two looks whether something has come.
    private static let pause: Duration = .milliseconds(5)

    private let descriptor: Int32
    private let name: String
    private let isOwned: Bool
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false

    /// Opens a file.
    ///
    /// - Parameter path: The file, or `-` for stdin.
    /// - Throws: ``CommandFailure``.
    package init(_ path: String) throws {
        self.name = path == "-" ? "stdin" : TerminalText.escaped(path)
        self.isOwned = path != "-"
        self.descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard self.descriptor >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot read \(self.name): \(Errno.text)")
        }
    }

    deinit { if self.isOwned, self.descriptor >= 0 { close(self.descriptor) } }

    /// All that comes.
    ///
    /// - Parameter limit: The most bytes.
    /// - Returns: The bytes, or `nil` when there are more.
    /// - Throws: ``CommandFailure``, or `CancellationError`.
    package func all(limit: Int) async throws -> [UInt8]? {
        while !self.isAtEnd, self.buffer.count <= limit { try await self.read() }
        return self.buffer.count <= limit ? self.buffer : nil
    }

    /// The next line.
    ///
    /// - Parameter limit: The most bytes of a line.
    /// - Returns: The line, or `nil` at the end.
    /// - Throws: ``CommandFailure``, or `CancellationError`.
    package func line(limit: Int) async throws -> Line? {
        var searched = self.start
        var isTooLong = false
        while true {
            if let end = self.buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { self.start = end + 1 }
                return isTooLong || end - self.start > limit ? .tooLong : .bytes(Array(self.buffer[self.start..<end]))
            }
            if self.isAtEnd {
                defer { self.start = self.buffer.count }
                if self.buffer.count - self.start > limit { isTooLong = true }
                if isTooLong { return .tooLong }
                return self.start < self.buffer.count ? .bytes(Array(self.buffer[self.start...])) : nil
            }
            if self.buffer.count - self.start > limit {
                isTooLong = true
                self.start = self.buffer.count
            }
            self.buffer.removeFirst(self.start)
            self.start = 0
            searched = self.buffer.count
            try await self.read()
        }
    }

    /// Waits until something comes, and reads it.
    private func read() async throws {
        var ready = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, 0) == 0 { try await Task.sleep(for: Self.pause, clock: .continuous) }
        var bytes = [UInt8](repeating: 0, count: Self.chunk)
        let count = Glibc.read(self.descriptor, &bytes, bytes.count)
        if count < 0, errno == EINTR || errno == EAGAIN { return }
        guard count >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "cannot read \(self.name): \(Errno.text)")
        }
        self.isAtEnd = count == 0
        self.buffer += bytes[..<count]
    }
}
