// SPDX-License-Identifier: Apache-2.0

package import HoldfastCache
package import HoldfastCore
import HoldfastRedisCache

/// Why a command ends without success: one line for a person, and the exit code.
package struct CommandFailure: Error, Sendable {
    /// The exit code.
    package let status: Int32
    /// One line with what to do next, or `nil` when everything was said already.
    package let message: String?

    /// Makes a failure.
    package init(_ status: Int32, _ message: String? = nil) {
        self.status = status
        self.message = message
    }

    /// Makes a failure of an error of the engine.
    package init(_ error: LockError) {
        self.init(Self.status(for: error.code), Self.message(for: error))
    }

    /// Makes a failure of an error of a cache.
    package init(_ error: CacheError) {
        // The advice for programmers aside.
        let message = TerminalText.escaped(error.message.replacing(" (\(CacheAdvice.permissions))", with: ""))
        switch error.code {
        case .invalidArgument: self.init(ExitStatus.configuration, message)
        case .tierUnavailable:
            self.init(ExitStatus.unavailable, "\(message) (is the store running? `holdfast doctor` says more)")
        case .tierRefused: self.init(ExitStatus.unavailable, "\(message) (`holdfast doctor` says more)")
        case .conflict: self.init(ExitStatus.failure, "\(message); try again")
        default: self.init(ExitStatus.software, message)
        }
    }

    private static func status(for code: LockError.Code) -> Int32 {
        switch code {
        case .timeout: ExitStatus.notAcquired
        case .lost, .fenced: ExitStatus.lost
        case .deadlock, .upgradeConflict: ExitStatus.deadlock
        case .invalidResource, .invalidArgument, .unsupported: ExitStatus.configuration
        case .storeUnavailable, .storeRefused, .storeCorrupted, .limitReached: ExitStatus.unavailable
        default: ExitStatus.software
        }
    }

    private static func message(for error: LockError) -> String {
        let message = TerminalText.escaped(error.message)
        switch error.code {
        case .invalidResource:
            // The engine's advice is for programmers.
            let problem = message.prefix { $0 != ";" }
            return "\(problem) (names are 1 to 512 bytes without control characters and braces)"
        case .storeUnavailable: return "\(message) (is the store running? `holdfast doctor` says more)"
        case .storeRefused, .storeCorrupted: return "\(message) (`holdfast doctor` says more)"
        default: return message
        }
    }
}
