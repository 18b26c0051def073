// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What one worker measured.
///
/// All times are nanoseconds of boot time, so that logs of several processes can be merged.
package struct BenchLog: Sendable {
    /// The worker's number.
    package let worker: Int
    /// When each acquire was sent.
    package private(set) var asked: [Int64] = []
    /// When each lock was held.
    package private(set) var entered: [Int64] = []
    /// When each release was sent.
    package private(set) var left: [Int64] = []
    /// When each release was confirmed.
    package private(set) var ended: [Int64] = []
    /// How many may hold each lock at once as it was held.
    package private(set) var limits: [Int64] = []
    /// Cycles that failed.
    package private(set) var failed: Int64 = 0
    /// The first failure.
    package private(set) var firstError: String?

    /// Room for so many cycles is made before the clock starts, so that the log does not slow what it measures.
    private static let room = 1 << 16

    /// Makes an empty log.
    package init(worker: Int) {
        self.worker = worker
        self.asked.reserveCapacity(Self.room)
        self.entered.reserveCapacity(Self.room)
        self.left.reserveCapacity(Self.room)
        self.ended.reserveCapacity(Self.room)
        self.limits.reserveCapacity(Self.room)
    }

    /// How many cycles there are.
    package var count: Int { self.asked.count }

    /// Adds a cycle.
    package mutating func add(asked: Int64, entered: Int64, left: Int64, ended: Int64, mode: LockMode) {
        self.asked.append(asked)
        self.entered.append(entered)
        self.left.append(left)
        self.ended.append(ended)
        switch mode {
        case .exclusive: self.limits.append(1)
        case .shared, .update: self.limits.append(.max)
        case .permit(of: let count): self.limits.append(Int64(count))
        }
    }

    /// Adds a failure.
    package mutating func fail(_ error: any Error) {
        self.failed += 1
        if self.firstError == nil { self.firstError = "\(error)" }
    }

    /// The numbers in a row, for a file.
    package var words: [Int64] {
        [Int64(self.worker), self.failed, Int64(self.count)] + self.asked + self.entered + self.left + self.ended
            + self.limits
    }

    /// Reads what ``words`` gives, and takes it off the front.
    package init?(words: inout ArraySlice<Int64>) {
        guard words.count >= 3 else { return nil }
        let start = words.startIndex
        let count = Int(words[start + 2])
        guard count >= 0, words.count >= 3 + 5 * count else { return nil }
        self.worker = Int(words[start])
        self.failed = words[start + 1]
        func column(_ index: Int) -> [Int64] { Array(words[(start + 3 + index * count)...].prefix(count)) }
        self.asked = column(0)
        self.entered = column(1)
        self.left = column(2)
        self.ended = column(3)
        self.limits = column(4)
        words = words.dropFirst(3 + 5 * count)
    }
}
