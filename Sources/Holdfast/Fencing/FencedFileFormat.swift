// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore

/// The bytes of a fenced file: the line `holdfast-fenced 1 TOKEN LENGTH`, then the value.
enum FencedFileFormat {
    /// The most bytes of the first line: the words and two 64-bit numbers.
    static let maximumHeader = 80
    private static let magic = "holdfast-fenced 1"

    static func bytes(of fenced: Fenced<Data>) -> Data {
        Data("\(Self.magic) \(fenced.token) \(fenced.value.count)\n".utf8) + fenced.value
    }

    /// Reads what ``bytes(of:)`` gives; `nil` for anything else, such as a file that was cut short.
    static func fenced(_ bytes: Data) -> Fenced<Data>? {
        guard let end = bytes.prefix(Self.maximumHeader).firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        let words = String(decoding: bytes[..<end], as: UTF8.self).split(
            separator: " ",
            omittingEmptySubsequences: false
        )
        guard words.count == 4, words.prefix(2).joined(separator: " ") == Self.magic, let token = UInt64(words[2]),
            let length = Int(words[3])
        else { return nil }
        let value = bytes[bytes.index(after: end)...]
        guard value.count == length else { return nil }
        return Fenced(value: Data(value), token: FencingToken(rawValue: token))
    }
}
