// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
package import HoldfastCache
package import HoldfastCore

/// The shared tier of the demo's cache: one entry in one file, which refuses writes with an older fencing token than it has
/// seen.
///
/// The entry's version is how often it was written. Tokens are compared and the file replaced in one step; the version is
/// looked at before that, which is enough under a lock: whoever is between the two with an old version has an old token.
/// Nothing is ever removed or invalidated.
package struct DemoTier: CacheTier {
    /// What the file holds.
    package struct Content: Sendable, Hashable {
        /// How often it was written.
        package var generation: Int64
        /// When, in boot time.
        package var builtAt: Int64
        /// Under which lock.
        package var token: FencingToken
        /// The envelope.
        package var payload: [UInt8]

        /// Before the first write.
        package static let empty = Content(generation: 0, builtAt: 0, token: .zero, payload: [])
    }

    /// The one key.
    package static let key = "index"

    /// `file`.
    package let name = "file"
    private let file: FencedFile
    /// Told of each write, and whether the file took it.
    private let onWrite: @Sendable (_ token: UInt64, _ generation: Int64, _ isWritten: Bool) -> Void

    /// Names a file; it is made by the first write.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - onWrite: Told of each write, and whether the file took it.
    package init(
        path: String,
        onWrite: @escaping @Sendable (_ token: UInt64, _ generation: Int64, _ isWritten: Bool) -> Void = { _, _, _ in }
    ) {
        self.file = FencedFile(path: path)
        self.onWrite = onWrite
    }

    /// What the file holds now.
    ///
    /// - Returns: The content; ``Content/empty`` before the first write.
    /// - Throws: `CacheError` when it cannot be read.
    package func content() async throws -> Content {
        guard let fenced = try await Self.withCacheErrors({ try await self.file.read() }) else { return .empty }
        let line = fenced.value.prefix { $0 != UInt8(ascii: "\n") }
        let fields = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count == 2, let generation = Int64(fields[0]), let builtAt = Int64(fields[1]), generation > 0
        else {
            throw CacheError(.tierRefused, "the cache file is damaged")
        }
        return Content(
            generation: generation,
            builtAt: builtAt,
            token: fenced.token,
            payload: Array(fenced.value.dropFirst(line.count + 1))
        )
    }

    /// Has nothing to do.
    package func run() async throws {}

    /// Reads; see `CacheTier`.
    package func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        let content = try await self.content()
        let entry = TierEntry(
            payload: content.payload,
            version: UInt64(content.generation),
            age: .nanoseconds(BootTime.now - content.builtAt)
        )
        return TierReading(
            entries: keys.map { $0 == Self.key && content != .empty ? entry : .absent },
            marks: TierMarks()
        )
    }

    /// Writes; see `CacheTier`.
    package func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        var replies: [TierWriteReply] = []
        for write in writes {
            guard write.key == Self.key else { throw Self.refusal }
            replies.append(try await self.write(write))
        }
        return replies
    }

    private func write(_ write: TierWrite) async throws -> TierWriteReply {
        let present = try await self.content()
        let version = UInt64(present.generation)
        var generation = present.generation + 1
        if case .version(let seen) = write.condition {
            generation = Int64(seen) + 1
            guard seen == version else {
                self.onWrite(write.token, generation, false)
                return .refused(version: version)
            }
        }
        let head = "\(generation) \(BootTime.now)\n"
        do {
            let token = FencingToken(rawValue: write.token)
            try await self.file.write(Data(head.utf8) + Data(write.payload), fencedBy: token)
        } catch let error as LockError where error.code == .fenced {
            self.onWrite(write.token, generation, false)
            return .refused(version: UInt64(try await self.content().generation))
        } catch let error as LockError {
            throw Self.failure(error)
        }
        self.onWrite(write.token, generation, true)
        return .written(version: UInt64(generation))
    }

    /// Refuses: the demo removes nothing.
    package func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        throw Self.refusal
    }

    /// Refuses: the demo invalidates nothing.
    package func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64
    {
        throw Self.refusal
    }

    /// No marks; see `CacheTier`.
    package func marks(of tags: [String], in namespace: String) async throws -> [UInt64] { tags.map { _ in 0 } }

    /// The one key, if it is there.
    package func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        let isThere = try await self.content() != .empty && Self.key.hasPrefix(prefix)
        return TierKeyPage(keys: isThere ? [Self.key] : [], next: nil)
    }

    private static let refusal = CacheError(.invalidArgument, "the demo's file has one entry, which is only replaced")

    private static func failure(_ error: LockError) -> CacheError {
        CacheError(
            error.code == .storeCorrupted ? .tierRefused : .tierUnavailable,
            error.message,
            underlying: error
        )
    }

    private static func withCacheErrors<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as LockError {
            throw self.failure(error)
        }
    }
}
