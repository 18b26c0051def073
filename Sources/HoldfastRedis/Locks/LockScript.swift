// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A Lua script, its hash, and the start of the command that runs it.
package struct LockScript: Sendable {
    /// The text.
    package let source: String
    /// How Redis names it.
    package let hash: String
    private let arguments: Int
    /// `EVALSHA hash keys` for one lock, encoded once.
    private let header: [UInt8]

    init(arguments: Int, _ source: String) {
        self.source = source
        self.hash = SHA1.hex(source)
        self.arguments = arguments
        self.header = Self.start(["EVALSHA", self.hash], keys: LockKeys.count(isCluster: false), arguments: arguments)
    }

    /// Starts the command; the keys and then the arguments must follow.
    ///
    /// - Parameters:
    ///   - encoder: Where to write.
    ///   - locks: How many locks the command is for.
    ///   - isKnown: Whether the server is believed to know the script; if not, its text is sent along.
    ///   - isCluster: Whether the server is a node of a cluster.
    ///   - extra: How many arguments follow that are not always given.
    func begin(_ encoder: inout CommandEncoder, locks: Int = 1, isKnown: Bool, isCluster: Bool, extra: Int = 0) {
        if isKnown, locks == 1, !isCluster, extra == 0 {
            encoder.raw(self.header)
        } else {
            let script = isKnown ? ["EVALSHA", self.hash] : ["EVAL", self.source]
            let keys = locks * LockKeys.count(isCluster: isCluster, encoder.manner)
            encoder.raw(Self.start(script, keys: keys, arguments: locks * self.arguments + extra))
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
