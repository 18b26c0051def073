// SPDX-License-Identifier: Apache-2.0

/// The last invalidations of the tags of some entries, by the bytes of the tags, as a tier tells them apart: two texts may
/// look alike.
struct TagMarks: Sendable {
    private var marks: [[UInt8]: UInt64] = [:]

    /// Asks for the marks of all tags, each once.
    ///
    /// - Parameters:
    ///   - envelopes: The entries.
    ///   - ask: Asks a tier for the marks of some tags, at most ``CacheLimits/maximumBatch``.
    /// - Throws: What `ask` throws.
    init(of envelopes: [Envelope], _ ask: ([String]) async throws -> [UInt64]) async throws {
        var tags: [[UInt8]: String] = [:]
        for tag in envelopes.lazy.flatMap(\.tags) { tags[Array(tag.utf8)] = tag }
        for some in Array(tags.values).batches {
            for (tag, mark) in zip(some, try await ask(some)) { self.marks[Array(tag.utf8)] = mark }
        }
    }

    /// The mark of a tag.
    subscript(tag: String) -> UInt64? { self.marks[Array(tag.utf8)] }
}

extension Array {
    /// Parts that each go in one call of a tier, in order.
    package var batches: [[Element]] {
        stride(from: 0, to: self.count, by: CacheLimits.maximumBatch).map {
            Array(self[$0..<Swift.min($0 + CacheLimits.maximumBatch, self.count)])
        }
    }
}
