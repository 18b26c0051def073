// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import HoldfastCore

/// Boot time in nanoseconds: what the guard, and logs of several processes, count on.
package enum BootTime {
    /// Now.
    package static var now: Int64 { hf_boot_time() }

    /// The boot time of an instant of the continuous clock, which is the same clock with a hidden origin.
    package static func of(_ instant: ContinuousClock.Instant) -> Int64 {
        Self.now + ContinuousClock.now.duration(to: instant).nanoseconds
    }

    /// Seconds with three decimals, as in /proc/uptime.
    package static func seconds(_ nanoseconds: Int64) -> String {
        JSONValue.decimal(Double(nanoseconds) / 1e9, places: 3).text
    }
}
