// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What an error line of a Redis server means: whether to try again, and what to tell people.
package struct RedisErrorLine: Error, Hashable {
    /// Where another try may succeed.
    package enum Retry: Sendable, Hashable {
        /// On the same server, after a short pause.
        case here
        /// On another server.
        case elsewhere
        /// Nowhere, as it is.
        case never
    }

    /// What a user is not permitted.
    package enum Lack: Sendable, Hashable {
        /// A key.
        case key
        /// A channel.
        case channel
        /// This command.
        case command(String)
        /// A command that a script calls; the server does not say which.
        case scriptCommand
    }

    /// The first word of the line.
    package let kind: String
    /// Where another try may succeed.
    package let retry: Retry
    /// The code for the caller.
    package let code: LockError.Code
    /// What to do about it.
    package let advice: String
    /// What the user is not permitted, when that is why.
    package let lack: Lack?

    /// Reads an error line.
    ///
    /// - Parameter line: The line without its leading minus sign.
    package init(_ line: String) {
        let line = Self.unwrapped(line)
        let first = line.prefix { $0 != " " }
        // What is no word of a server's is not repeated to logs and terminals as if it were.
        let isWord = first.utf8.count <= 32 && first.utf8.allSatisfy { (0x41...0x5A).contains($0) }
        // A script met a key that has left already, or would have made one.
        let kind = line.contains("access a non local key") ? "TRYAGAIN" : isWord ? String(first) : "ERR"
        self.kind = kind
        // The word itself is said already.
        let said = first == kind ? line.dropFirst(kind.count + 1) : line[...]
        let (retry, code, advice) = Self.table[kind] ?? (.never, .storeRefused, Self.said(said))
        self.retry = retry
        self.code = code
        self.lack = kind == "NOPERM" || line.contains(Self.inScript) ? Self.lack(line) : nil
        self.advice = self.lack.map(Self.missing) ?? advice
    }

    /// Finds what went wrong inside a script of Redis before 7, which stands behind where that was.
    ///
    /// As in `ERR Error running script (call to f_…): @user_script:50: @user_script: 50: -READONLY You can't write against
    /// a read only replica.`
    ///
    /// - Parameter line: A line.
    /// - Returns: What stands there, if it begins with a word that is known; otherwise the line.
    private static func unwrapped(_ line: String) -> String {
        let place = "@user_script: "
        guard line.hasPrefix("ERR Error running script"), let start = line.ranges(of: place).last?.upperBound else {
            return line
        }
        let said = line[start...].drop { $0.isNumber }
        guard said.hasPrefix(": ") else { return line }
        let inner = said.dropFirst(2).drop { $0 == "-" }
        return Self.table[String(inner.prefix { $0 != " " })] == nil ? line : String(inner)
    }

    /// What Redis 7.0 says instead of `NOPERM` where a script was stopped.
    private static let inScript = "The user executing the script can't"

    private static func lack(_ line: String) -> Lack? {
        if line.contains("run this command") { return .scriptCommand }
        if line.contains("key") { return .key }
        if line.contains("channel") { return .channel }
        guard let start = line.firstRange(of: "run the '")?.upperBound else { return nil }
        let command = line[start...].prefix { $0 != "'" }
        let isWord = command.utf8.count <= 32 && command.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x7C }
        return isWord && !command.isEmpty ? .command(String(command)) : nil
    }

    /// What a user lacks, in the words of a rule.
    ///
    /// The names of keys and channels are not in the line; ours have these patterns.
    private static func missing(_ lack: Lack) -> String {
        switch lack {
        case .key:
            "the user may not touch a key of this lock; permit ~NAME (or ~PREFIX*) and ~hf:* (`holdfast doctor` "
                + "shows the least that is needed)"
        case .channel: "the user may not use our channels; permit &hf:c:*"
        case .scriptCommand:
            "the user may not run a command that our scripts call; see ACL LOG on the server for which (`holdfast "
                + "doctor` shows the least that is needed)"
        case .command(let command):
            "the user may not run \(command); permit +\(command) (`holdfast doctor` shows the least that is needed)"
        }
    }

    /// The error for the caller.
    ///
    /// The line itself may quote arguments of the command, so it is not shown for known kinds.
    package var error: LockError {
        LockError(self.code, "the Redis server answered \(self.kind): \(self.advice)", underlying: self)
    }

    // What each line says about the server's state.
    private static let table: [String: (Retry, LockError.Code, String)] = [
        "NOSCRIPT": (.here, .storeUnavailable, "it lost its scripts; they are sent again"),
        "BUSY": (.here, .storeUnavailable, "a script of somebody has been running for too long; see SCRIPT KILL"),
        "LOADING": (.here, .storeUnavailable, "it is loading its data; wait until it is ready"),
        "TRYAGAIN": (.here, .storeUnavailable, "keys are moving between cluster nodes; try again"),
        "CLUSTERDOWN": (.here, .storeUnavailable, "the cluster does not serve all slots; see CLUSTER INFO"),
        "MASTERDOWN": (.elsewhere, .storeUnavailable, "it is a replica without its master; connect to the master"),
        "READONLY": (.elsewhere, .storeRefused, "it is a read-only replica; connect to the master"),
        "MOVED": (.elsewhere, .storeRefused, "it is a node of a cluster; write redis+cluster://HOST:PORT"),
        "ASK": (.elsewhere, .storeRefused, "it is a node of a cluster; write redis+cluster://HOST:PORT"),
        "OOM": (.never, .storeRefused, "it is out of memory; raise maxmemory or free some"),
        "MISCONF": (.never, .storeRefused, "it cannot save to disk and refuses writes; see its log"),
        "NOREPLICAS": (.never, .storeRefused, "fewer replicas are connected than min-replicas-to-write asks for"),
        "CROSSSLOT": (.never, .storeRefused, "the keys of one lock are in different slots; report this as a bug"),
        "NOAUTH": (.never, .storeRefused, "it wants a password; give it as redis://user:password@host"),
        "WRONGPASS": (.never, .storeRefused, "the user name or the password is wrong"),
        "NOPERM": (.never, .storeRefused, "the user lacks a permission; see ACL LOG on the server for which"),
        "WRONGTYPE": (
            .never, .storeCorrupted,
            "the key exists and is not a plain lock; another program uses the name, choose another or a prefix"
        ),
        "NOPROTO": (.never, .storeRefused, "it does not speak RESP2"),
        "DENIED": (.never, .storeRefused, "protected mode is on; set a password or bind the server to an address"),
    ]

    private static func said(_ line: Substring) -> String {
        // Unknown lines are shown, cut short and without the arguments that "unknown command" quotes.
        let end = line.firstRange(of: ", with args").map(\.lowerBound) ?? line.endIndex
        var shown = ""
        for scalar in line[..<end].unicodeScalars.prefix(200)
        where scalar.value >= 0x20 && !(0x7F...0x9F).contains(scalar.value) {
            shown.unicodeScalars.append(scalar)
        }
        return shown
    }
}
