// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Environment variables, as a value that tests can make up.
package struct Environment: Sendable {
    private let lookup: @Sendable (String) -> String?

    /// Makes an environment of given variables.
    package init(_ variables: [String: String]) { self.lookup = { variables[$0] } }

    private init(lookup: @escaping @Sendable (String) -> String?) { self.lookup = lookup }

    /// This process' own.
    package static let process = Environment { name in
        getenv(name).map { String(cString: $0) }
    }

    /// The value of a variable, or `nil` when it is not set.
    package subscript(name: String) -> String? { self.lookup(name) }
}
