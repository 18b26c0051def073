// SPDX-License-Identifier: Apache-2.0

/// What a shared tier keeps of an entry: the value's bytes, and what must be known to use them.
///
/// ```
/// "HFE" 2 | codec 1 | flags 1 | mark 8 | fresh 8 | revalidate 8 | kept 8 | load 8
///   | entity tag: length 2, bytes | writer: length 1, bytes | tags: count 1, each length 1, bytes | payload: length 4, bytes | checksum 8
/// ```
///
/// Numbers are big-endian; times are nanoseconds since the tier stored it, all ones for ever; flag 1 says that there is
/// nothing. The checksum is FNV-1a over namespace, key and all that comes before it: each of its steps can be undone, so
/// no change of a single bit passes, and bytes of another key do not either.
package struct Envelope: Sendable, Hashable {
    /// Why bytes are not used.
    package enum Fault: Error, Sendable, Hashable {
        /// They are not an envelope, or one of a version that this program does not know.
        case foreign
        /// They were cut or changed.
        case damaged
        /// The payload is larger than it may be.
        case tooLarge
    }

    /// Which codec made the payload.
    package var codec: UInt8
    /// Whether there is nothing.
    package var isNotFound = false
    /// What was invalidated in the tier before the value was loaded.
    package var mark: UInt64 = 0
    /// How long it is fresh.
    package var freshFor: Int64 = .max
    /// How long it is given at once while it is loaded anew.
    package var revalidateFor: Int64 = .max
    /// How long it is there.
    package var keptFor: Int64 = .max
    /// How long it took to load.
    package var loadTime: Int64 = 0
    /// What the loader called this state of the value.
    package var entityTag: String?
    /// Who wrote it, for people: at most ``longestWriter`` bytes.
    package var writer = ""
    /// What was said of it, sorted.
    package var tags: [String] = []
    /// Whether it stands for a removal: it says that there is nothing, and for no time.
    var isTombstone: Bool { self.isNotFound && self.keptFor == 0 }
    /// The value's bytes.
    package var payload: ArraySlice<UInt8> = []

    private static let magic: [UInt8] = [0x48, 0x46, 0x45, 2]
    private static let nothing: UInt8 = 1
    /// The longest entity tag that is kept; a longer one is not.
    private static let longestEntityTag = 4096
    /// Its length is one byte.
    package static let longestWriter = 255

    /// An envelope of a value's bytes.
    package init(codec: UInt8) { self.codec = codec }

    /// The bytes for a key of a namespace.
    package func encoded(for key: String, in namespace: String) -> [UInt8] {
        var bytes = Self.magic
        bytes.reserveCapacity(self.payload.count + 128)
        bytes += [self.codec, self.isNotFound ? Self.nothing : 0]
        for number in [
            self.mark, UInt64(bitPattern: self.freshFor), UInt64(bitPattern: self.revalidateFor),
            UInt64(bitPattern: self.keptFor), UInt64(bitPattern: self.loadTime),
        ] {
            bytes.append(number, width: 8)
        }
        let entityTag = Array((self.entityTag ?? "").utf8)
        let isKept = entityTag.count <= Self.longestEntityTag
        bytes.append(UInt64(isKept ? entityTag.count : 0), width: 2)
        if isKept { bytes += entityTag }
        let writer = Array(self.writer.utf8)
        let isNamed = writer.count <= Self.longestWriter
        bytes.append(UInt64(isNamed ? writer.count : 0), width: 1)
        if isNamed { bytes += writer }
        bytes.append(UInt64(self.tags.count), width: 1)
        for tag in self.tags {
            bytes.append(UInt64(tag.utf8.count), width: 1)
            bytes += tag.utf8
        }
        bytes.append(UInt64(self.payload.count), width: 4)
        bytes += self.payload
        bytes.append(Self.checksum(bytes[...], key, namespace), width: 8)
        return bytes
    }

    /// Reads bytes.
    ///
    /// - Parameters:
    ///   - bytes: What lies in the tier.
    ///   - key: For which key.
    ///   - namespace: Of which namespace.
    ///   - limit: The most bytes that a payload may have.
    /// - Throws: ``Fault``.
    package init(_ bytes: [UInt8], for key: String, in namespace: String, limit: Int) throws(Fault) {
        guard bytes.starts(with: Self.magic) else { throw .foreign }
        var reader = ByteReader(bytes.dropLast(8))
        guard bytes.count >= 8, var sum = Optional(ByteReader(bytes.suffix(8))),
            sum.number(8) == Self.checksum(bytes.dropLast(8), key, namespace)
        else { throw .damaged }
        _ = reader.bytes(Self.magic.count)
        guard let codec = reader.number(1), let flags = reader.number(1), let mark = reader.number(8),
            let fresh = reader.number(8), let revalidate = reader.number(8), let kept = reader.number(8),
            let load = reader.number(8), let tagLength = reader.number(2), let entityTag = reader.text(Int(tagLength)),
            let writerLength = reader.number(1), let writer = reader.text(Int(writerLength)),
            let count = reader.number(1)
        else { throw .damaged }
        self.writer = writer
        self.codec = UInt8(codec)
        self.isNotFound = UInt8(flags) & Self.nothing != 0
        self.mark = mark
        self.freshFor = Int64(bitPattern: fresh)
        self.revalidateFor = Int64(bitPattern: revalidate)
        self.keptFor = Int64(bitPattern: kept)
        self.loadTime = Int64(bitPattern: load)
        self.entityTag = entityTag.isEmpty ? nil : entityTag
        for _ in 0..<count {
            guard let length = reader.number(1), let tag = reader.text(Int(length)) else { throw .damaged }
            self.tags.append(tag)
        }
        guard let length = reader.number(4) else { throw .damaged }
        guard length <= limit else { throw .tooLarge }
        guard let payload = reader.bytes(Int(length)), reader.isAtEnd else { throw .damaged }
        // Lengths of time that a program of ours never writes.
        guard self.freshFor >= 0, self.revalidateFor >= self.freshFor || self.isNotFound,
            self.keptFor >= self.freshFor, self.loadTime >= 0
        else { throw .damaged }
        self.payload = payload
    }

    /// The mark of an envelope, without a look at the rest; `nil` of what is none.
    package static func mark(of bytes: [UInt8]) -> UInt64? {
        // After the magic number, the codec and the flags.
        guard bytes.starts(with: Self.magic), bytes.count >= Self.magic.count + 10 else { return nil }
        return bytes[(Self.magic.count + 2)...].prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// FNV-1a with 64 bits.
    ///
    /// Source: Fowler, Noll, Vo; draft-eastlake-fnv.
    private static func checksum(_ bytes: ArraySlice<UInt8>, _ key: String, _ namespace: String) -> UInt64 {
        var sum: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ byte: UInt8) { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for byte in namespace.utf8 { add(byte) }
        add(0)
        for byte in key.utf8 { add(byte) }
        add(0)
        for byte in bytes { add(byte) }
        return sum
    }
}
