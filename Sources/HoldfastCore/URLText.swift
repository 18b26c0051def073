// SPDX-License-Identifier: Apache-2.0

/// Parts of store URLs.
package enum URLText {
    /// Decodes `%XX`; `nil` when a % is not followed by two hexadecimal digits, or the result has a NUL or is not UTF-8.
    package static func decoded(_ text: some StringProtocol) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(Self.nibble), let low = rest.popFirst().flatMap(Self.nibble) else {
                return nil
            }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self), !decoded.utf8.contains(0) else { return nil }
        return decoded
    }

    /// Reads `500ms`, `2s`, `5m`, `1h` or a number of seconds, up to a day.
    package static func duration(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number.isFinite, number <= 86_400_000 else { return nil }
        let scale: Double
        switch text[digits.endIndex...] {
        case "", "s": scale = 1000
        case "ms": scale = 1
        case "m": scale = 60_000
        case "h": scale = 3_600_000
        default: return nil
        }
        return number * scale <= 86_400_000 ? .milliseconds(Int64(number * scale)) : nil
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
