// SPDX-License-Identifier: Apache-2.0

/// One thing that a look at a store found.
public struct Finding: Sendable, Codable, Hashable {
    /// How bad a finding is.
    public enum Severity: String, Sendable, Codable, Hashable {
        /// Nothing to do.
        case ok
        /// Works, but a promise is weaker than it could be.
        case warning
        /// Locks do not work, or will stop working.
        case problem
    }

    /// What was looked at, in a few words, such as `file permissions`.
    public var name: String
    /// What was found, with its unit.
    public var value: String
    /// How bad it is.
    public var severity: Severity
    /// What to do about it; `nil` when there is nothing to do.
    public var advice: String?

    /// Makes a finding.
    ///
    /// - Parameters:
    ///   - name: What was looked at.
    ///   - value: What was found.
    ///   - severity: How bad it is.
    ///   - advice: What to do about it.
    public init(name: String, value: String, severity: Severity = .ok, advice: String? = nil) {
        self.name = name
        self.value = value
        self.severity = severity
        self.advice = advice
    }
}

/// A store that can look itself over, for people who want to know why locks do not work.
public protocol DiagnosableStore: LockStore {
    /// Looks the store over: reachable, fast enough, safe settings.
    ///
    /// Never throws: what goes wrong is a finding. Findings hold no passwords. May take and release a lock on a probe
    /// name of the store's own.
    ///
    /// - Returns: What was found, the most basic things first.
    func diagnose() async -> [Finding]
}
