// SPDX-License-Identifier: Apache-2.0

import Glibc
package import HoldfastCore

/// The cache of the demo: one file that refuses writes with an older fencing token than it has seen.
package struct DemoCache: Sendable {
    /// What the file holds.
    package struct Content: Sendable, Hashable {
        /// How often it was rebuilt.
        package var generation: Int64
        /// When, in boot time.
        package var builtAt: Int64
        /// Under which lock.
        package var token: FencingToken
        /// The index.
        package var text: String

        /// Makes a content.
        package init(generation: Int64, builtAt: Int64, token: FencingToken, text: String) {
            self.generation = generation
            self.builtAt = builtAt
            self.token = token
            self.text = text
        }

        /// Before the first rebuild: stale since ever.
        package static let empty = Content(generation: 0, builtAt: .min, token: .zero, text: "")

        /// Whether it must be rebuilt.
        ///
        /// - Parameters:
        ///   - now: The boot time.
        ///   - limit: How old it may be, in nanoseconds.
        /// - Returns: Whether it is too old.
        package func isStale(at now: Int64, limit: Int64) -> Bool {
            self.builtAt == .min || now - self.builtAt >= limit
        }
    }

    private let path: String

    /// Names a cache; the file is made by the first write.
    package init(path: String) { self.path = path }

    /// What the file holds now.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be read.
    package func read() throws -> Content {
        let descriptor = open(self.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return .empty }
            throw CommandFailure(ExitStatus.unavailable, "cannot read the cache: \(Errno.text)")
        }
        defer { close(descriptor) }
        let bytes = try DemoIndex.bytes(from: descriptor)
        let line = bytes.prefix { $0 != UInt8(ascii: "\n") }
        let fields = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count == 3, let generation = Int64(fields[0]), let builtAt = Int64(fields[1]),
            let token = UInt64(fields[2])
        else { throw CommandFailure(ExitStatus.software, "the cache file is damaged") }
        return Content(
            generation: generation,
            builtAt: builtAt,
            token: FencingToken(rawValue: token),
            text: String(decoding: bytes.dropFirst(line.count + 1), as: UTF8.self)
        )
    }

    /// Replaces the content, unless a newer token was here before.
    ///
    /// The check and the replacement are one step among all who write through here: they hold a file lock meanwhile.
    ///
    /// - Throws: `LockError` with code `fenced`; the file is then unchanged.
    package func write(_ content: Content) throws {
        let guardFile = open("\(self.path).fence", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard guardFile >= 0, flock(guardFile, LOCK_EX) == 0 else {
            throw CommandFailure(ExitStatus.unavailable, "cannot lock the cache file: \(Errno.text)")
        }
        defer { close(guardFile) }
        var fence = Fence(highest: try self.read().token)
        try fence.admit(content.token)
        try SecretFile.write(
            "\(content.generation) \(content.builtAt) \(content.token)\n\(content.text)",
            to: self.path
        )
    }
}
