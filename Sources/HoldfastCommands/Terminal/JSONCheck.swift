// SPDX-License-Identifier: Apache-2.0

/// Whether bytes are one value of JSON, to the letter.
///
/// Foundation's parser also takes commas before a closing bracket and a byte order mark, which other readers do not.
/// Source: RFC 8259.
package struct JSONCheck {
    /// How deep lists and objects may lie in each other: as deep as Foundation's parser goes.
    private static let deepest = 512

    private let bytes: [UInt8]
    private var place = 0
    /// What closes the lists and objects that are open, the innermost last.
    private var open: [UInt8] = []

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Whether bytes are one value, with white space around it or not; that they are UTF-8 is not looked at.
    package static func isValue(_ bytes: [UInt8]) -> Bool {
        var check = JSONCheck(bytes)
        return check.run()
    }

    /// Whether bytes begin with a byte order mark, as some editors write one.
    package static func hasMark(_ bytes: some Sequence<UInt8>) -> Bool { bytes.starts(with: [0xEF, 0xBB, 0xBF]) }

    private var byte: UInt8? { self.place < self.bytes.count ? self.bytes[self.place] : nil }

    /// Goes on if this comes next.
    private mutating func take(_ sign: UInt8) -> Bool {
        guard self.byte == sign else { return false }
        self.place += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = self.byte, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { self.place += 1 }
    }

    private mutating func run() -> Bool {
        while true {
            guard self.takeValue() else { return false }
            // Behind a value: a comma, or what ends the list or object, or the end.
            while true {
                self.skipSpace()
                guard let end = self.open.last else { return self.place == self.bytes.count }
                if self.take(UInt8(ascii: ",")) {
                    guard end == UInt8(ascii: "]") || self.takeName() else { return false }
                    break
                }
                guard self.take(end) else { return false }
                self.open.removeLast()
            }
        }
    }

    /// Takes a value that is no list and no object, or an empty one, or all up to the first value that is one.
    private mutating func takeValue() -> Bool {
        while true {
            self.skipSpace()
            switch self.byte {
            case UInt8(ascii: "["):
                self.place += 1
                self.skipSpace()
                if self.take(UInt8(ascii: "]")) { return true }
                guard self.enter(UInt8(ascii: "]")) else { return false }
            case UInt8(ascii: "{"):
                self.place += 1
                self.skipSpace()
                if self.take(UInt8(ascii: "}")) { return true }
                guard self.enter(UInt8(ascii: "}")), self.takeName() else { return false }
            case UInt8(ascii: "\""): return self.takeString()
            case UInt8(ascii: "t"): return self.takeWord("true")
            case UInt8(ascii: "f"): return self.takeWord("false")
            case UInt8(ascii: "n"): return self.takeWord("null")
            default: return self.takeNumber()
            }
        }
    }

    private mutating func enter(_ end: UInt8) -> Bool {
        self.open.append(end)
        return self.open.count <= Self.deepest
    }

    /// The name of a member, and its colon.
    private mutating func takeName() -> Bool {
        self.skipSpace()
        guard self.takeString() else { return false }
        self.skipSpace()
        return self.take(UInt8(ascii: ":"))
    }

    private mutating func takeWord(_ word: StaticString) -> Bool {
        word.withUTF8Buffer { letters in
            for letter in letters { guard self.take(letter) else { return false } }
            return true
        }
    }

    private mutating func takeString() -> Bool {
        guard self.take(UInt8(ascii: "\"")) else { return false }
        while let byte = self.byte {
            self.place += 1
            switch byte {
            case UInt8(ascii: "\""): return true
            case 0..<0x20: return false
            case UInt8(ascii: "\\"): guard self.takeEscape() else { return false }
            default: break
            }
        }
        return false
    }

    private mutating func takeEscape() -> Bool {
        guard let sign = self.byte else { return false }
        self.place += 1
        guard sign == UInt8(ascii: "u") else { return "\"\\/bfnrt".utf8.contains(sign) }
        for _ in 0..<4 {
            guard let digit = self.byte, "0123456789abcdefABCDEF".utf8.contains(digit) else { return false }
            self.place += 1
        }
        return true
    }

    private mutating func takeNumber() -> Bool {
        _ = self.take(UInt8(ascii: "-"))
        guard self.take(UInt8(ascii: "0")) || self.takeDigits() else { return false }
        if self.take(UInt8(ascii: ".")) { guard self.takeDigits() else { return false } }
        if self.take(UInt8(ascii: "e")) || self.take(UInt8(ascii: "E")) {
            if !self.take(UInt8(ascii: "+")) { _ = self.take(UInt8(ascii: "-")) }
            return self.takeDigits()
        }
        return true
    }

    private mutating func takeDigits() -> Bool {
        let start = self.place
        while let digit = self.byte, (0x30...0x39).contains(digit) { self.place += 1 }
        return self.place > start
    }
}
