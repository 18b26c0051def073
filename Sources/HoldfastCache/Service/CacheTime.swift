// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore

/// The clock of a cache: nanoseconds since it was made, on a clock that goes on while the machine sleeps.
///
/// Small, so that a copy costs next to nothing: it is looked at for each value that is stored.
struct CacheClock: Sendable {
    private final class Injected: Sendable {
        let clock: any LeaseClock

        init(_ clock: any LeaseClock) { self.clock = clock }
    }

    /// Another clock than the machine's, in tests.
    private let injected: Injected?
    private let origin: ContinuousClock.Instant
    private let bootOrigin: Int64

    /// Starts at zero.
    ///
    /// - Parameter clock: `nil` for the machine's.
    init(_ clock: any LeaseClock) {
        self.injected = clock is ContinuousClock ? nil : Injected(clock)
        self.origin = clock.now
        self.bootOrigin = Self.bootTime
    }

    /// The clock to sleep on.
    var sleeper: any LeaseClock { self.injected?.clock ?? ContinuousClock() }

    /// The time, 0 or more.
    var now: Int64 {
        // The same clock as ContinuousClock, without a division for each read of it.
        guard let injected = self.injected else { return Self.bootTime - self.bootOrigin }
        return self.origin.duration(to: injected.clock.now).nanoseconds
    }

    /// An instant of the clock to sleep on.
    func instant(of time: Int64) -> ContinuousClock.Instant {
        guard self.injected == nil else { return self.origin.advanced(by: .nanoseconds(time)) }
        return ContinuousClock.now.advanced(by: .nanoseconds(time - self.now))
    }

    private static var bootTime: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

extension Int64 {
    /// The sum with a duration; never beyond the end of time.
    func after(_ duration: Duration) -> Int64 { self.after(nanoseconds: duration.nanoseconds) }

    /// The sum with a duration; never beyond the end of time.
    func after(nanoseconds: Int64) -> Int64 {
        let (sum, overflow) = self.addingReportingOverflow(nanoseconds)
        return overflow ? .max : sum
    }
}
