// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
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

    private let file: FencedFile

    /// Names a cache; the file is made by the first write.
    package init(path: String) { self.file = FencedFile(path: path) }

    /// What the file holds now.
    ///
    /// - Returns: The content; ``Content/empty`` before the first write.
    /// - Throws: ``CommandFailure`` or `LockError` when it cannot be read.
    package func read() async throws -> Content {
        guard let fenced = try await self.file.read() else { return .empty }
        let line = fenced.value.prefix { $0 != UInt8(ascii: "\n") }
        let fields = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count == 2, let generation = Int64(fields[0]), let builtAt = Int64(fields[1]) else {
            throw CommandFailure(ExitStatus.software, "the cache file is damaged")
        }
        return Content(
            generation: generation,
            builtAt: builtAt,
            token: fenced.token,
            text: String(decoding: fenced.value.dropFirst(line.count + 1), as: UTF8.self)
        )
    }

    /// Replaces the content, unless a newer token was here before.
    ///
    /// - Parameter content: The new content, with the token of the lock it was built under.
    /// - Throws: `LockError` with code `fenced`; the file is then unchanged.
    package func write(_ content: Content) async throws {
        let text = "\(content.generation) \(content.builtAt)\n\(content.text)"
        try await self.file.write(Data(text.utf8), fencedBy: content.token)
    }
}
