// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What came of asking one Sentinel for the master: pure.
package enum SentinelAnswer: Sendable, Hashable {
    /// It says where the master is.
    case knows(MasterReport)
    /// It knows none of this name.
    case knowsNone
    /// It does not answer.
    case silent
    /// It is a server, and no Sentinel.
    case stranger
    /// It refuses us, for instance for a wrong password; with its words.
    case refuses(String)

    /// Reads what came.
    init(_ result: Result<MasterReport?, LockError>) {
        switch result {
        case .success(let report?): self = .knows(report)
        case .success(nil): self = .knowsNone
        case .failure(let error):
            guard let line = error.underlying as? RedisErrorLine else {
                self = error.code == .storeUnavailable ? .silent : .refuses(error.message)
                return
            }
            if line.advice.contains("No such master") {
                self = .knowsNone
            } else if line.advice.contains("unknown command") {
                self = .stranger
            } else {
                self = .refuses(error.message)
            }
        }
    }

    /// Where the master is.
    var report: MasterReport? { if case .knows(let report) = self { report } else { nil } }

    /// Why nobody knows the master, in words.
    ///
    /// - Parameters:
    ///   - answers: What each says, none of which knows it.
    ///   - name: What the master is called.
    /// - Returns: A sentence without its end.
    package static func sentence(_ answers: [SentinelAnswer], name: String) -> String {
        let count = answers.count
        let silent = answers.count { $0 == .silent }
        let strangers = answers.count { $0 == .stranger }
        if silent == count {
            return count == 1 ? "the Sentinel does not answer" : "none of the \(count) Sentinels answers"
        }
        if strangers == count {
            return "what answers \(count == 1 ? "there" : "at the \(count) addresses") is no Sentinel"
        }
        var parts: [String] = []
        if silent > 0 { parts.append("\(silent) \(silent == 1 ? "does" : "do") not answer") }
        if strangers > 0 { parts.append("\(strangers) \(strangers == 1 ? "is" : "are") no Sentinel") }
        for case .refuses(let words) in answers {
            parts.append(words)
            break
        }
        let whom = count == 1 ? "the Sentinel knows no" : "none of \(count) Sentinels knows a"
        return "\(whom) master named \(name)\(parts.isEmpty ? "" : "; \(parts.joined(separator: ", "))")"
    }
}
