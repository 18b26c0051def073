// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCache
import HoldfastTesting
import Testing

/// Memory and disk that are really scarce, each in a process of its own.
@Suite("Scarce memory and a full disk", .timeLimit(.minutes(5)))
struct ScarceResourceTests {
    /// How many bytes of memory this process had at most since ``forgetHighWater()``.
    private static var highWater: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (Int(line.filter(\.isNumber)) ?? 0) << 10
    }

    private static func forgetHighWater() throws {
        guard let file = fopen("/proc/self/clear_refs", "w") else { throw Failure() }
        defer { fclose(file) }
        fputs("5", file)
    }

    /// Puts nested JSON into a tier, and has a cache look at it.
    ///
    /// - Returns: How many values the cache found, and how many bytes that took.
    private static func read(
        _ megabytes: Int,
        limit: Int
    ) async throws -> (values: Int, unreadable: UInt64, bytes: Int) {
        let tier = MemoryCacheTier()
        let service = try CacheService(tier: tier)
        let cache = try service.sharedCache("test", of: [[Int]].self, keyedBy: String.self) {
            $0.maximumSharedValue = limit
        }
        let part = Array("[".utf8) + Array(String(repeating: "1,", count: 50_000).utf8.dropLast()) + Array("],".utf8)
        var envelope = Envelope(codec: 1)
        let parts = (0..<megabytes * 10).flatMap { _ in part }
        envelope.payload = (Array("[".utf8) + parts.dropLast() + Array("]".utf8))[...]
        let write = TierWrite(key: "k", payload: envelope.encoded(for: "k", in: "test"), timeToLive: .seconds(60))
        _ = try await tier.write([write], in: "test")
        try self.forgetHighWater()
        let before = self.highWater
        let value = try await cache.get("k")
        return (value?.count ?? 0, cache.statistics().unreadable, self.highWater - before)
    }

    @Test("twenty megabytes of nested JSON in a tier are refused before they cost twenty times that")
    func hugeJSON() async {
        await #expect(processExitsWith: .success) {
            for limit in [CacheLimits.defaultMaximumValue, CacheLimits.largestValue] {
                let refused = try await Self.read(20, limit: limit)
                #expect(refused.values == 0 && refused.unreadable == 1)
                #expect(refused.bytes < 64 << 20, "\(refused.bytes)")
            }
            // What may be read is, and that shows in the same measure.
            let found = try await Self.read(6, limit: CacheLimits.largestValue)
            #expect(found.values == 60 && found.unreadable == 0)
            #expect(found.bytes > 64 << 20, "\(found.bytes)")
        }
    }

    private static func limitFiles(to bytes: rlim_t?) throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
        limit.rlim_cur = bytes ?? limit.rlim_max
        guard setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { throw Failure() }
    }

    @Test("a journal whose file may not grow says so, loses nothing, and goes on when it may")
    func fullDisk() async {
        await #expect(processExitsWith: .success) {
            let base = try TemporaryDirectory.make(prefix: "hf-full-")
            defer { TemporaryDirectory.remove(base) }
            func record(_ version: UInt64) -> JournalRecord {
                JournalRecord(.set, version: version, key: "k\(version)", payload: Array(repeating: 7, count: 1000))
            }
            let journal = FileWriteJournal(directory: base + "/journal")
            _ = try await journal.open()
            var kept: [UInt64] = []
            // Whoever started this process may have it ignored.
            signal(SIGXFSZ, SIG_DFL)
            try Self.limitFiles(to: 40_000)
            for version: UInt64 in 1...100 {
                do {
                    try await journal.append([record(version)])
                    kept.append(version)
                } catch let error as CacheError {
                    #expect(error.code == .storage && error.message.contains("File too large"), "\(error)")
                }
            }
            #expect((20...40).contains(kept.count))
            try Self.limitFiles(to: nil)
            try await journal.append([record(101)])
            await journal.close()
            let contents = try await FileWriteJournal(directory: base + "/journal").open()
            #expect(contents.changes.map(\.version) == kept + [101] && contents.tornBytes == 0)
        }
    }
}
