// SPDX-License-Identifier: Apache-2.0

import Glibc

extension Lifetime {
    /// The natural logarithm.
    static func logarithm(_ number: Double) -> Double { log(number) }
}
