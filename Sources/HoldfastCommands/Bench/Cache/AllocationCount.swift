// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How often a thread asked for memory, where somebody counts that: see `Benchmarks/allocations.c`.
struct AllocationCount: Sendable {
    private let count: @convention(c) () -> UInt64

    /// Finds the counter; `nil` when the program was started without.
    init?() {
        guard let symbol = dlsym(nil, "hf_allocations") else { return nil }
        self.count = unsafeBitCast(symbol, to: (@convention(c) () -> UInt64).self)
    }

    /// By the calling thread, since it began.
    var ofThread: UInt64 { self.count() }
}
