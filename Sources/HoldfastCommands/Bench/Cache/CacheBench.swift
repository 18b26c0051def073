// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCache
import Synchronization

/// Measures the memory of a cache: threads that read and write as a trace says.
package struct CacheBench: Sendable {
    /// What a thread did.
    private struct Log: Sendable {
        var operations = 0
        var reads = 0
        var hits = 0
        /// How often it asked for memory meanwhile, where that is counted.
        var allocations: UInt64 = 0
        /// How long some of the calls took, in nanoseconds.
        var samples: [UInt32] = []
    }

    /// Whose memory is measured.
    package let peer: CachePeer
    /// What is done.
    package let workload: CacheWorkload
    /// By how many threads.
    package let threads: Int
    /// For how long.
    package let seconds: Double
    /// Which keys, in order.
    package let trace: [UInt32]
    /// How many entries fit.
    package let capacity: Int

    /// How many calls there are to one whose time is taken.
    private static let sampling = 256

    /// Describes a measurement.
    package init(
        _ workload: CacheWorkload,
        of peer: CachePeer = .holdfast,
        threads: Int,
        seconds: Double,
        trace: [UInt32],
        capacity: Int
    ) {
        self.workload = workload
        self.peer = peer
        self.threads = threads
        self.seconds = seconds
        self.trace = trace
        self.capacity = capacity
    }

    /// Measures.
    ///
    /// - Parameter version: Of the program.
    /// - Returns: A line of JSON.
    /// - Throws: `CacheError` when the capacity is out of its range.
    package func measure(version: String) async throws -> JSONValue {
        switch self.peer {
        case .holdfast:
            let cache = try CacheService().cache("bench", of: Int.self, keyedBy: Int.self) { [capacity] in
                $0.capacity = .entries(capacity)
            }
            return await self.measure(HoldfastMemory(cache: cache), version: version)
        case .nodeLRU: return await self.measure(NodeLRU<Int, Int>(capacity: self.capacity), version: version)
        case .flatLRU: return await self.measure(FlatLRU(capacity: self.capacity), version: version)
        }
    }

    private func measure(_ memory: some BenchedMemory, version: String) async -> JSONValue {
        for key in self.trace.lazy.map({ Int($0) }) where memory.cached(key) == nil { memory.put(key, for: key) }
        let stop = StopFlag()
        let start = ContinuousClock.now
        let cpu = Self.processTime
        let logs = await withTaskGroup(of: Log.self) { group in
            for thread in 0..<self.threads {
                group.addTask { await Self.onThread { self.work(thread, on: memory, until: stop) } }
            }
            try? await Task.sleep(for: .seconds(self.seconds))
            stop.set()
            return await group.reduce(into: []) { $0.append($1) }
        }
        let elapsed = start.duration(to: .now) / .seconds(1)
        let used = Self.processTime - cpu
        let operations = logs.reduce(0) { $0 + $1.operations }
        let reads = logs.reduce(0) { $0 + $1.reads }
        let hits = logs.reduce(0) { $0 + $1.hits }
        let samples = logs.flatMap(\.samples).sorted()
        let quantile = { (part: Double) -> Double in
            samples.isEmpty ? 0 : Double(samples[min(samples.count - 1, Int(Double(samples.count) * part))]) / 1000
        }
        var members: [JSONValue.Member] = [
            .init("peer", .string(self.peer.rawValue)),
            .init("version", .string(version)),
            .init("workload", .string("\(self.workload.rawValue) t\(self.threads)")),
            .init("ops_per_s", .decimal(Double(operations) / elapsed, places: 0)),
            .init("p50_us", .decimal(quantile(0.5), places: 2)),
            .init("p99_us", .decimal(quantile(0.99), places: 2)),
            .init("cpu_s", .decimal(used, places: 3)),
            .init("secs", .decimal(elapsed, places: 2)),
            .init("hit_ratio", .decimal(reads == 0 ? 0 : Double(hits) / Double(reads), places: 4)),
        ]
        if AllocationCount() != nil {
            let allocations = logs.reduce(0) { $0 + $1.allocations }
            members.append(
                .init("allocations_per_op", .decimal(Double(allocations) / Double(max(1, operations)), places: 6))
            )
        }
        return .object(members)
    }

    private func work(_ thread: Int, on memory: some BenchedMemory, until stop: StopFlag) -> Log {
        var log = Log()
        log.samples.reserveCapacity(1 << 16)
        let counter = AllocationCount()
        let before = counter?.ofThread ?? 0
        var place = thread * self.trace.count / self.threads
        var random = UInt32(truncatingIfNeeded: thread * 7919 + 1)
        var began = ContinuousClock.now
        while !stop.isSet {
            for call in 0..<Self.sampling {
                let key = Int(self.trace[place])
                place += 1
                if place == self.trace.count { place = 0 }
                let isSampled = call == 0 && log.samples.count < 1 << 16
                if isSampled { began = .now }
                random = random &* 1_664_525 &+ 1_013_904_223
                if self.workload == .r75w25, random >> 30 == 0 {
                    memory.put(key, for: key)
                } else {
                    log.reads += 1
                    if memory.cached(key) != nil {
                        log.hits += 1
                    } else if self.workload == .through {
                        memory.put(key, for: key)
                    }
                }
                if isSampled {
                    let time = began.duration(to: .now) / .nanoseconds(1)
                    log.samples.append(UInt32(min(time, 4e9)))
                }
            }
            log.operations += Self.sampling
        }
        log.allocations = (counter?.ofThread ?? 0) - before
        return log
    }

    /// Runs on a thread of its own: what computes for seconds has no place on the shared ones.
    private static func onThread<Result: Sendable>(_ work: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: work()) }
            thread.stackSize = 1 << 20
            thread.start()
        }
    }

    private static var processTime: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

/// Says when to stop.
private final class StopFlag: Sendable {
    private let flag = Atomic(false)

    init() {}

    var isSet: Bool { self.flag.load(ordering: .relaxed) }

    func set() { self.flag.store(true, ordering: .relaxed) }
}
