// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The time of day, for people to read; it decides nothing.
package enum WallClock {
    /// `14:03:07.250`, local time.
    package static var timeOfDay: String {
        let (time, milliseconds) = Self.now(local: true)
        return "\(Self.digits(time.tm_hour, 2)):\(Self.digits(time.tm_min, 2)):\(Self.digits(time.tm_sec, 2))"
            + ".\(Self.digits(milliseconds, 3))"
    }

    /// `2026-01-31T14:03:07.250Z`, RFC 3339 in UTC.
    package static var timestamp: String {
        let (time, milliseconds) = Self.now(local: false)
        let date =
            "\(Self.digits(time.tm_year + 1900, 4))-\(Self.digits(time.tm_mon + 1, 2))-\(Self.digits(time.tm_mday, 2))"
        return "\(date)T\(Self.digits(time.tm_hour, 2)):\(Self.digits(time.tm_min, 2)):\(Self.digits(time.tm_sec, 2))"
            + ".\(Self.digits(milliseconds, 3))Z"
    }

    private static func now(local: Bool) -> (tm, Int32) {
        var instant = timespec()
        clock_gettime(CLOCK_REALTIME, &instant)
        var time = tm()
        if local { localtime_r(&instant.tv_sec, &time) } else { gmtime_r(&instant.tv_sec, &time) }
        return (time, Int32(instant.tv_nsec / 1_000_000))
    }

    private static func digits(_ number: Int32, _ count: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, count - digits.count)) + digits
    }
}
