// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore

/// Writes commands straight into a buffer, as arrays of bulk strings (RESP2).
///
/// Each part is one write into the buffer: the many small ones of a field-by-field encoder cost more than all else that
/// a command costs its caller.
package struct CommandEncoder: Sendable {
    /// The buffer.
    package var buffer: ByteBuffer
    /// How keys of locks are given.
    var manner = LockKeys.Manner.usual

    /// `$`, a length and two line ends.
    private static let frame = 32

    /// Starts with an empty buffer or one that has commands already.
    package init(_ buffer: ByteBuffer) { self.buffer = buffer }

    /// Starts a command of so many parts, its name included.
    package mutating func begin(_ count: Int) {
        unsafe self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.frame) { bytes in
            var cursor = unsafe Cursor(bytes)
            cursor.length(UInt8(ascii: "*"), count)
            return cursor.count
        }
    }

    /// Writes a part.
    package mutating func part(_ text: String) {
        let count = text.utf8.count
        unsafe self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count + Self.frame) { bytes in
            var cursor = unsafe Cursor(bytes)
            cursor.length(UInt8(ascii: "$"), count)
            cursor.text(text)
            cursor.end()
            return cursor.count
        }
    }

    /// Writes a part made of several pieces.
    package mutating func part(_ first: String, _ second: String, _ third: String, _ fourth: String) {
        let count = first.utf8.count + second.utf8.count + third.utf8.count + fourth.utf8.count
        unsafe self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count + Self.frame) { bytes in
            var cursor = unsafe Cursor(bytes)
            cursor.length(UInt8(ascii: "$"), count)
            cursor.text(first)
            cursor.text(second)
            cursor.text(third)
            cursor.text(fourth)
            cursor.end()
            return cursor.count
        }
    }

    /// Writes an id in full as a part.
    package mutating func part(_ id: RequestID) {
        unsafe self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 32 + Self.frame) { bytes in
            var cursor = unsafe Cursor(bytes)
            cursor.length(UInt8(ascii: "$"), 32)
            cursor.hexadecimal(id.high)
            cursor.hexadecimal(id.low)
            cursor.end()
            return cursor.count
        }
    }

    /// Writes a number as a part.
    package mutating func part(_ number: Int64) {
        unsafe self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 2 * Self.frame) { bytes in
            var cursor = unsafe Cursor(bytes)
            let magnitude = number.magnitude
            cursor.length(UInt8(ascii: "$"), Cursor.digits(magnitude) + (number < 0 ? 1 : 0))
            if number < 0 { cursor.byte(UInt8(ascii: "-")) }
            cursor.decimal(magnitude)
            cursor.end()
            return cursor.count
        }
    }

    /// Writes bytes as a part.
    package mutating func part(_ bytes: [UInt8]) {
        self.buffer.writeString("$\(bytes.count)\r\n")
        self.buffer.writeBytes(bytes)
        self.buffer.writeString("\r\n")
    }

    /// Writes bytes that are encoded already.
    package mutating func raw(_ bytes: [UInt8]) { self.buffer.writeBytes(bytes) }

    /// Moves what another one wrote here.
    mutating func take(_ other: inout Self) {
        self.buffer.writeBuffer(&other.buffer)
        other.buffer.clear()
    }

    /// Writes a whole command.
    package mutating func command(_ parts: [String]) {
        self.begin(parts.count)
        for part in parts { self.part(part) }
    }
}

/// A place in a buffer; never outlives the call that lent the buffer.
///
/// Each user asks for room for what it writes, which is what makes the unchecked writes safe.
@safe private struct Cursor {
    private let bytes: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ bytes: UnsafeMutableRawBufferPointer) { unsafe self.bytes = bytes }

    static func digits(_ number: UInt64) -> Int {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        return count
    }

    mutating func byte(_ byte: UInt8) {
        unsafe self.bytes[self.count] = byte
        self.count += 1
    }

    mutating func end() {
        self.byte(0x0D)
        self.byte(0x0A)
    }

    mutating func length(_ type: UInt8, _ length: Int) {
        self.byte(type)
        self.decimal(UInt64(length))
        self.end()
    }

    mutating func decimal(_ number: UInt64) {
        let digits = Self.digits(number)
        var rest = number
        for index in stride(from: digits - 1, through: 0, by: -1) {
            unsafe self.bytes[self.count + index] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        self.count += digits
    }

    mutating func hexadecimal(_ word: UInt64) {
        for shift in stride(from: 60, through: 0, by: -4) {
            let nibble = UInt8(truncatingIfNeeded: word >> UInt64(shift)) & 0xF
            self.byte(nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10)
        }
    }

    mutating func text(_ text: String) {
        var text = text
        text.withUTF8 { source in
            guard !source.isEmpty else { return }
            let target = unsafe UnsafeMutableRawBufferPointer(rebasing: self.bytes[self.count...])
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(source))
            self.count += source.count
        }
    }
}
