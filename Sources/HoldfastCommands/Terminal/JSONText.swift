// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A text that was found to be one value of JSON: of others, and nevertheless safe to show.
package struct JSONText: Sendable, Hashable {
    /// The text as it came, without white space around it.
    package let bytes: [UInt8]

    /// Reads JSON; `nil` when it is not one whole value in UTF-8.
    package init?(_ bytes: some Sequence<UInt8>) {
        let bytes = Self.trimmed(Array(bytes)[...])
        // The parser would also take UTF-16, which others who read the value do not.
        guard !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil, JSONCheck.isValue(bytes),
            (try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)) != nil
        else { return nil }
        self.bytes = bytes
    }

    /// A part of what was found to be JSON.
    private init(part bytes: ArraySlice<UInt8>) { self.bytes = Self.trimmed(bytes) }

    /// Bytes without white space around them.
    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D }
        guard let first = bytes.firstIndex(where: { !isSpace($0) }), let last = bytes.lastIndex(where: { !isSpace($0) })
        else { return [] }
        return Array(bytes[first...last])
    }

    /// A text as a string of JSON.
    package init(string: String) { self.bytes = Array(JSONValue.string(string).text.utf8) }

    /// The same value in characters that do not disturb a terminal.
    ///
    /// Only strings can hold others, and there they can be written as numbers.
    package var text: String { self.text(breaksLines: true) }

    /// ``text`` on one line.
    package var line: String { self.text(breaksLines: false) }

    private func text(breaksLines: Bool) -> String {
        let text = String(decoding: self.bytes, as: UTF8.self)
        var result = ""
        result.reserveCapacity(self.bytes.count)
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n" where breaksLines: result.unicodeScalars.append(scalar)
            // Between values: within strings they are written as numbers already.
            case "\n", "\r", "\t": result += " "
            case _ where TerminalText.isUnsafe(scalar):
                for unit in String(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// The string that this is; `nil` when it is another value.
    package var string: String? {
        (try? JSONSerialization.jsonObject(with: Data(self.bytes), options: .fragmentsAllowed)) as? String
    }

    /// The strings of the list that this is; `nil` when it is another value.
    package var strings: [String]? {
        (try? JSONSerialization.jsonObject(with: Data(self.bytes), options: .fragmentsAllowed)) as? [String]
    }

    /// The members of the object that this is, each value as it is written; `nil` when it is another value.
    package var members: [(name: String, value: JSONText)]? {
        guard self.bytes.first == UInt8(ascii: "{") else { return nil }
        var members: [(name: String, value: JSONText)] = []
        var place = 1
        while true {
            self.skip(to: &place) { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "}") }
            guard place < self.bytes.count, self.bytes[place] == UInt8(ascii: "\"") else { return members }
            let nameStart = place
            self.skipValue(&place)
            guard let name = JSONText(part: self.bytes[nameStart..<place]).string else { return nil }
            self.skip(to: &place) { $0 == UInt8(ascii: ":") }
            let start = place + 1
            place = start
            self.skipValue(&place)
            members.append((name, JSONText(part: self.bytes[min(start, place)..<place])))
        }
    }

    private func skip(to place: inout Int, _ isThere: (UInt8) -> Bool) {
        while place < self.bytes.count, !isThere(self.bytes[place]) { place += 1 }
    }

    /// Goes behind a value: to the comma, colon or bracket that ends it.
    private func skipValue(_ place: inout Int) {
        var (depth, isString) = (0, false)
        while place < self.bytes.count {
            let byte = self.bytes[place]
            if isString {
                if byte == UInt8(ascii: "\\") { place += 1 }
                if byte == UInt8(ascii: "\"") { isString = false }
            } else {
                switch byte {
                case UInt8(ascii: "\""): isString = true
                case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                case UInt8(ascii: ","), UInt8(ascii: ":"): if depth == 0 { return }
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    if depth == 0 { return }
                    depth -= 1
                default: break
                }
            }
            place += 1
        }
    }
}
