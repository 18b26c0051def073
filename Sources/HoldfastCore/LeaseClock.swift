// SPDX-License-Identifier: Apache-2.0

/// The clock that leases are counted on: one that goes on while the machine sleeps.
///
/// In production this is `ContinuousClock` (`CLOCK_BOOTTIME` on Linux). Tests give a clock of their own whose instants
/// are `ContinuousClock.Instant` too, so that nothing else has to be generic. `SuspendingClock` would let a lease look
/// valid after the machine slept through its end, and a wall clock moves when somebody sets it.
public protocol LeaseClock: Clock, Sendable where Instant == ContinuousClock.Instant {}

extension ContinuousClock: LeaseClock {}
