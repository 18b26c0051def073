// SPDX-License-Identifier: Apache-2.0

/// The name of something that is locked.
///
/// A resource is UTF-8 text of 1 to 512 bytes without control characters and without braces. Control characters would
/// reach terminals and logs; braces decide the hash slot of a Redis key, and all keys of one lock must share a slot.
/// Two resources are equal exactly when their UTF-8 bytes are: `é` composed and `é` decomposed are two names, here and
/// in every store.
///
/// ```swift
/// let invoice: Resource = "invoices/42"              // a literal that breaks the rules stops the program
/// let upload = try Resource(pathFromUser)            // a name from outside is checked
/// let safe = Resource(escaping: "a{b}")              // "a%7Bb%7D": any text can be made a name
/// ```
public struct Resource: Sendable, Hashable, Comparable {
    /// The most bytes a name may have: long enough for paths, short enough for a key and a table column.
    public static let maximumLength = 512

    /// The name as text.
    public let name: String
    /// The hash of the bytes, made once: a resource is looked up several times for each lock.
    private let hash: Int
    /// ASCII names are compared as strings, which is one `memcmp`; others byte by byte.
    private let isASCII: Bool

    /// Takes a name that was checked.
    private init(checked name: String) {
        self.name = name
        var hasher = Hasher()
        var isASCII = true
        var bytes = name
        bytes.withUTF8 { buffer in
            unsafe hasher.combine(bytes: UnsafeRawBufferPointer(buffer))
            isASCII = unsafe buffer.allSatisfy { $0 < 0x80 }
        }
        self.hash = hasher.finalize()
        self.isASCII = isASCII
    }

    /// Checks and wraps a name.
    ///
    /// - Parameter name: The name to check.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidResource`` that says which rule is broken and how to
    ///   escape the name.
    public init(_ name: String) throws(LockError) {
        if let problem = Self.problem(with: name) {
            throw LockError(.invalidResource, "\(problem); Resource(escaping:) makes a name of any text")
        }
        self.init(checked: name)
    }

    /// Makes a name of any text by percent-encoding what a name may not contain.
    ///
    /// Control characters, braces and the percent sign become `%XX`. Different texts give different names. A result
    /// longer than ``maximumLength`` is cut and ends in a 64-bit FNV-1a hash of the whole, so that long texts stay apart
    /// in practice; two texts made to collide can share a name, so do not use it on long hostile input. An empty text
    /// becomes `%`.
    ///
    /// - Parameter text: Any text.
    public init(escaping text: String) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            let mustEscape = Self.isControl(scalar) || scalar == "%" || scalar == "{" || scalar == "}"
            for byte in String(scalar).utf8 {
                if mustEscape {
                    bytes.append(UInt8(ascii: "%"))
                    bytes.append(Hex.digit(byte >> 4))
                    bytes.append(Hex.digit(byte & 0xF))
                } else {
                    bytes.append(byte)
                }
            }
        }
        if bytes.isEmpty { bytes = [UInt8(ascii: "%")] }
        if bytes.count > Self.maximumLength {
            let hash = Hex.text(of: FNV1a.hash(text.utf8))
            // A cut inside a character would not be UTF-8 any more: step back to a boundary.
            var end = Self.maximumLength - hash.utf8.count - 2
            while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
            bytes.removeSubrange(end...)
            // No name that was not cut has a tilde after a percent sign.
            bytes.append(contentsOf: "%~".utf8)
            bytes.append(contentsOf: hash.utf8)
        }
        self.init(checked: String(decoding: bytes, as: UTF8.self))
    }

    /// The rule that a name breaks, or `nil` when it is a good one.
    static func problem(with name: String) -> String? {
        let bytes = name.utf8
        if bytes.isEmpty { return "a resource name is empty" }
        if bytes.count > maximumLength {
            return "a resource name has \(bytes.count) bytes; the limit is \(maximumLength)"
        }
        for scalar in name.unicodeScalars {
            if isControl(scalar) {
                return "a resource name has the control character U+00\(Hex.text(of: UInt8(scalar.value)))"
            }
            if scalar == "{" || scalar == "}" { return "a resource name has a brace" }
        }
        return nil
    }

    /// Whether a scalar is of the C0 or C1 controls, or DEL.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
    }

    /// Orders by the bytes of the names.
    public static func < (left: Resource, right: Resource) -> Bool {
        left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
    }

    /// Compares the bytes of the names.
    public static func == (left: Resource, right: Resource) -> Bool {
        guard left.hash == right.hash, left.isASCII == right.isASCII else { return false }
        return left.isASCII ? left.name == right.name : left.name.utf8.elementsEqual(right.name.utf8)
    }

    /// Hashes the bytes of the name.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.hash) }

    /// What dictionaries ask for: the bytes were mixed with a seed of this process already, and a cycle of a lock asks ten
    /// times.
    public func _rawHashValue(seed: Int) -> Int { self.hash ^ seed }
}

extension Resource: ExpressibleByStringLiteral, CustomStringConvertible {
    /// Wraps a literal; one that breaks the rules stops the program, since it is a mistake in the source.
    public init(stringLiteral name: String) {
        precondition(Self.problem(with: name) == nil, Self.problem(with: name) ?? "")
        self.init(checked: name)
    }

    /// The name as text.
    public var description: String { self.name }
}

extension Resource: Codable {
    /// Reads a name from a single string and checks it.
    public init(from decoder: any Decoder) throws {
        try self.init(try decoder.singleValueContainer().decode(String.self))
    }

    /// Writes the name as a single string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.name)
    }
}
