// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A Lua script, its hash, and the start of the command that runs it.
package struct LockScript: Sendable {
    /// The text.
    package let source: String
    /// How Redis names it.
    package let hash: String
    private let keys: Int
    private let arguments: Int
    /// `EVALSHA hash keys` for one group, encoded once.
    private let header: [UInt8]

    init(keys: Int, arguments: Int, _ source: String) {
        self.source = source
        self.hash = SHA1.hex(source)
        self.keys = keys
        self.arguments = arguments
        self.header = Self.start(["EVALSHA", self.hash], keys: keys, arguments: arguments)
    }

    /// Starts the command; the keys and then the arguments must follow.
    ///
    /// - Parameters:
    ///   - encoder: Where to write.
    ///   - groups: How many resources the command is for.
    ///   - isKnown: Whether the server is believed to know the script; if not, its text is sent along.
    func begin(_ encoder: inout CommandEncoder, groups: Int = 1, isKnown: Bool) {
        if isKnown, groups == 1 {
            encoder.raw(self.header)
        } else {
            let script = isKnown ? ["EVALSHA", self.hash] : ["EVAL", self.source]
            encoder.raw(Self.start(script, keys: groups * self.keys, arguments: groups * self.arguments))
        }
    }

    private static func start(_ script: [String], keys: Int, arguments: Int) -> [UInt8] {
        var encoder = CommandEncoder(.init())
        encoder.begin(script.count + 1 + keys + arguments)
        for part in script { encoder.part(part) }
        encoder.part(Int64(keys))
        return Array(encoder.buffer.readableBytesView)
    }
}
