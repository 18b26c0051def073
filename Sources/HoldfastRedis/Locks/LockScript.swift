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

    /// Whether calls of it for several locks can be one command, as ``several`` says.
    let joins: Bool

    /// Makes a script.
    ///
    /// - Parameters:
    ///   - arguments: How many arguments it takes for each lock.
    ///   - joins: Whether it is for one lock, and calls of it can be joined. It is the body of a function then, which gets
    ///     three keys and the arguments, and finds `call`, `clock`, `known` and some functions made.
    ///   - ahead: What is done before the first of several, whose first keys are in `locks`.
    ///   - source: Its text.
    init(arguments: Int, joins: Bool = false, ahead: String = "", _ source: String) {
        self.source = joins ? Self.several(source, ahead: ahead) : source
        self.hash = SHA1.hex(self.source)
        self.arguments = arguments
        self.joins = joins
        var encoder = CommandEncoder(.init())
        Self.begin(&encoder, "EVALSHA", self.hash, keys: LockKeys.count(isCluster: false), arguments: arguments)
        self.header = Array(encoder.buffer.readableBytesView)
    }

    /// A script for one lock as one for several, given one after the other: it answers for each what it would answer alone,
    /// errors included, and reads the clock once.
    ///
    /// What goes with each call (finding the script, its arguments, the clock) is a third of an uncontended one. Not for a
    /// cluster, where three keys are one lock's and locks are in different slots.
    private static func several(_ one: String, ahead: String) -> String {
        """
        local call = redis.call
        local byte, find, format, sub = string.byte, string.find, string.format, string.sub
        local clock, known
        local function one(first, second, third, ...)
        \(one)
        end
        if #KEYS < 4 then return one(KEYS[1], KEYS[2], KEYS[3], unpack(ARGV)) end
        local answers, locks, count, size = {}, {}, #KEYS / 2, 2 * #ARGV / #KEYS
        for i = 1, count do locks[i] = KEYS[2 * i - 1] end
        \(ahead)
        for i = 1, count do
          local ok, answer = pcall(one, locks[i], KEYS[2 * i], nil, unpack(ARGV, (i - 1) * size + 1, i * size))
          -- Before Redis 7 an error is a text, which says where it was.
          if not ok and type(answer) ~= 'table' then
            answer = { err = 'ERR Error running script (one of several): ' .. tostring(answer) }
          end
          answers[i] = answer
        end
        return answers
        """
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
            let keys = locks * LockKeys.count(isCluster: isCluster, encoder.manner)
            let script = isKnown ? ("EVALSHA", self.hash) : ("EVAL", self.source)
            Self.begin(&encoder, script.0, script.1, keys: keys, arguments: locks * self.arguments + extra)
        }
    }

    private static func begin(
        _ encoder: inout CommandEncoder,
        _ command: String,
        _ script: String,
        keys: Int,
        arguments: Int
    ) {
        encoder.begin(3 + keys + arguments)
        encoder.part(command)
        encoder.part(script)
        encoder.part(Int64(keys))
    }
}
