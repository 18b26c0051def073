// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Modes and manners as the scripts write them: a letter, and for a permit the count.
enum LockModeText {
    /// Writes a mode: `x`, `s`, `u` or `pN`.
    static func text(of mode: LockMode) -> String {
        switch mode {
        case .exclusive: "x"
        case .shared: "s"
        case .update: "u"
        case .permit(of: let count): "p\(count)"
        }
    }

    /// Reads a mode; `nil` when the text is not one.
    static func mode(_ text: String) -> LockMode? {
        switch text {
        case "x": return .exclusive
        case "s": return .shared
        case "u": return .update
        default:
            guard text.hasPrefix("p"), let count = Int(text.dropFirst()), count >= 1 else { return nil }
            return .permit(of: count)
        }
    }

    /// How a request wants to be treated, as ``LockScripts/acquire`` wants it.
    static func manner(of request: LockRequest, queues: Bool) -> String {
        let isPlain = request.mode == .exclusive && request.priority == 0
        let start = isPlain ? (queues ? "q" : "f") : (queues ? "Q" : "F")
        let limit = request.waitLimit.map { max(1, $0.millisecondsRoundedUp) } ?? 0
        let acceptance = max(1, request.acceptance.millisecondsRoundedUp)
        let headStart = LockScripts.headStart * Int64(request.priority)
        let fairness = request.fairness == .barging ? "b" : request.acceptsUnasked ? "d" : "f"
        return "\(start)\(limit)|\(acceptance)|\(headStart)|\(fairness)\(Self.text(of: request.mode)):"
            + Self.text(of: request.holding)
    }

    /// Writes references one after the other; what is none is left out.
    static func text(of references: [String]) -> String {
        references.filter { $0.utf8.count == 8 && $0.utf8.allSatisfy(Self.isHexDigit) }.joined()
    }

    /// Reads references.
    static func references(_ text: String) -> [String] {
        let bytes = Array(text.utf8)
        return stride(from: 0, through: bytes.count - 8, by: 8).map {
            String(decoding: bytes[$0..<($0 + 8)], as: UTF8.self)
        }
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }
}
