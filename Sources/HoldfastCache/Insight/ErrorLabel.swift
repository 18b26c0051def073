// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What is said of errors where others read it: their type and code, since a text may hold a value or a credential.
enum ErrorLabel {
    /// The type of an error, and its code when it is one of ours: `CacheError(deadline)`.
    static func of(_ error: any Error) -> String {
        switch error {
        case let error as CacheError: "CacheError(\(error.code))"
        case let error as LockError: "LockError(\(error.code))"
        default: String(describing: type(of: error))
        }
    }
}
