// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A text as the system keeps it: bytes without a NUL, in whatever encoding somebody had.
package struct CText: Sendable, Hashable {
    /// The bytes, without the NUL at the end.
    package let bytes: [UInt8]

    /// Takes the bytes of a text, up to a NUL if there is one.
    package init(_ text: String) { self.bytes = Array(text.utf8.prefix { $0 != 0 }) }

    /// Copies a C string.
    package init(_ text: UnsafePointer<CChar>) {
        self.bytes = Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }

    /// The text before the first equals sign: the name of an environment variable.
    package var name: String { String(decoding: self.bytes.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self) }

    /// What separates a command from our own arguments.
    package static let terminator = CText("--")

    /// What stands after the last slash.
    package var lastPathComponent: String {
        let name = self.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        return String(decoding: name, as: UTF8.self)
    }

    /// Whether the bytes are UTF-8.
    package var isUTF8: Bool { String(validating: self.bytes, as: UTF8.self) != nil }

    /// This process' arguments, without the program's name.
    package static let arguments: [CText] = {
        var arguments: [CText] = []
        for index in 1..<max(1, Int(CommandLine.argc)) {
            if let argument = CommandLine.unsafeArgv[index] { arguments.append(CText(argument)) }
        }
        return arguments
    }()
}
