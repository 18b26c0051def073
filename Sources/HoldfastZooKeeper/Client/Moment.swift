// SPDX-License-Identifier: Apache-2.0

/// An instant as a time since this process first asked, for what is copied often.
///
/// The standard library may change what an instant is made of, so whatever has one in it is copied, taken apart and
/// destroyed by way of tables that are made while the program runs; a duration is known to the compiler.
@propertyWrapper
struct Moment: Sendable {
    private static let start = ContinuousClock.Instant.now

    private var sinceStart: Duration

    init(wrappedValue instant: ContinuousClock.Instant) { self.sinceStart = Self.start.duration(to: instant) }

    /// The instant.
    var wrappedValue: ContinuousClock.Instant {
        get { Self.start.advanced(by: self.sinceStart) }
        set { self.sinceStart = Self.start.duration(to: newValue) }
    }
}
