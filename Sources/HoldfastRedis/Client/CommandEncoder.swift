// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore

/// Writes commands straight into a buffer, as arrays of bulk strings (RESP2).
package struct CommandEncoder: Sendable {
    /// The buffer.
    package var buffer: ByteBuffer

    /// Starts with an empty buffer or one that has commands already.
    package init(_ buffer: ByteBuffer) { self.buffer = buffer }

    /// Starts a command of so many parts, its name included.
    package mutating func begin(_ count: Int) { self.prefixed(UInt8(ascii: "*"), count) }

    /// Writes a part.
    package mutating func part(_ text: String) {
        self.prefixed(UInt8(ascii: "$"), text.utf8.count)
        self.buffer.writeString(text)
        self.end()
    }

    /// Writes a part made of several pieces.
    package mutating func part(_ first: String, _ second: String, _ third: String, _ fourth: String) {
        let count = first.utf8.count + second.utf8.count + third.utf8.count + fourth.utf8.count
        self.prefixed(UInt8(ascii: "$"), count)
        self.buffer.writeString(first)
        self.buffer.writeString(second)
        self.buffer.writeString(third)
        self.buffer.writeString(fourth)
        self.end()
    }

    /// Writes an id in full as a part.
    package mutating func part(_ id: RequestID) {
        self.prefixed(UInt8(ascii: "$"), 32)
        self.buffer.writeString(Hex.text(of: id.high))
        self.buffer.writeString(Hex.text(of: id.low))
        self.end()
    }

    /// Writes a number as a part.
    package mutating func part(_ number: Int64) {
        let magnitude = number.magnitude
        let digits = Self.digits(magnitude)
        self.prefixed(UInt8(ascii: "$"), digits + (number < 0 ? 1 : 0))
        if number < 0 { self.buffer.writeInteger(UInt8(ascii: "-")) }
        self.decimal(magnitude, digits)
        self.end()
    }

    /// Writes bytes that are encoded already.
    package mutating func raw(_ bytes: [UInt8]) { self.buffer.writeBytes(bytes) }

    /// Writes a whole command.
    package mutating func command(_ parts: [String]) {
        self.begin(parts.count)
        for part in parts { self.part(part) }
    }

    private mutating func end() { self.buffer.writeInteger(UInt16(0x0D0A)) }

    private mutating func prefixed(_ type: UInt8, _ number: Int) {
        self.buffer.writeInteger(type)
        let magnitude = number.magnitude
        self.decimal(UInt64(magnitude), Self.digits(UInt64(magnitude)))
        self.end()
    }

    private mutating func decimal(_ number: UInt64, _ digits: Int) {
        var divisor: UInt64 = 1
        for _ in 1..<digits { divisor *= 10 }
        while divisor > 0 {
            self.buffer.writeInteger(UInt8(ascii: "0") + UInt8(number / divisor % 10))
            divisor /= 10
        }
    }

    private static func digits(_ number: UInt64) -> Int {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        return count
    }
}
