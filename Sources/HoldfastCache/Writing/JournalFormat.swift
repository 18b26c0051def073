// SPDX-License-Identifier: Apache-2.0

/// The bytes of a journal's file, and what they say: pure.
///
/// ```
/// file    "HFWJ" 1 | id 8 | highest version 8 | checksum 8, then records
/// record  0xA7 | kind 1 | version 8 | key length 2 | payload length 4 | head sum 8 | key | payload | checksum 8
/// ```
///
/// Numbers are big-endian. Sums are FNV-1a, and begin with the file's id and the place of the record: no bytes of another
/// place or another file pass for a record. The head has a sum of its own, so that its lengths may be believed: a record
/// that goes beyond the end was never finished. Damage with a whole record behind it cannot come from that.
package enum JournalFormat {
    private static let magic: [UInt8] = [0x48, 0x46, 0x57, 0x4A, 1]
    private static let marker: UInt8 = 0xA7
    /// How long the head of a file is, in bytes.
    package static let fileHead = 29
    /// How long a record is besides key and payload, in bytes.
    package static let overhead = 32
    private static let recordHead = 24

    /// Why a file cannot be used.
    package enum Fault: Error, Sendable, Hashable {
        /// It is not a journal, or one of a version that this program does not know.
        case foreign
        /// Something was changed in it, at this place.
        case damaged(offset: Int)
    }

    /// A record and where it is.
    package struct Line: Sendable, Hashable {
        package let record: JournalRecord
        package let offset: Int
        package let length: Int
    }

    /// What a file says.
    package struct Contents: Sendable, Hashable {
        package var id: UInt64
        package var highestVersion: UInt64
        package var lines: [Line] = []
        /// Where the next record goes: what is behind was never finished.
        package var end: Int
    }

    /// The head of a new file.
    package static func head(id: UInt64, highestVersion: UInt64) -> [UInt8] {
        var bytes = Self.magic
        bytes.append(id, width: 8)
        bytes.append(highestVersion, width: 8)
        bytes.append(Self.sum(id, 0, bytes[...]), width: 8)
        return bytes
    }

    /// How long a record is in the file.
    static func length(of record: JournalRecord) -> Int {
        Self.overhead + record.key.utf8.count + record.payload.count
    }

    /// A record as it stands in the file.
    package static func bytes(of record: JournalRecord, id: UInt64, offset: Int) -> [UInt8] {
        var bytes = [Self.marker, record.kind.rawValue]
        bytes.reserveCapacity(Self.overhead + record.key.utf8.count + record.payload.count)
        bytes.append(record.version, width: 8)
        bytes.append(UInt64(record.key.utf8.count), width: 2)
        bytes.append(UInt64(record.payload.count), width: 4)
        bytes.append(Self.sum(id, offset, bytes[...]), width: 8)
        bytes += record.key.utf8
        bytes += record.payload
        bytes.append(Self.sum(id, offset, bytes[...]), width: 8)
        return bytes
    }

    /// Reads a file.
    ///
    /// - Parameter bytes: All of it.
    /// - Returns: What it says.
    /// - Throws: ``Fault``.
    package static func contents(_ bytes: [UInt8]) throws(Fault) -> Contents {
        guard bytes.starts(with: Self.magic) else { throw .foreign }
        var reader = ByteReader(bytes.prefix(Self.fileHead).dropFirst(Self.magic.count))
        guard let id = reader.number(8), let highest = reader.number(8), let sum = reader.number(8),
            sum == Self.sum(id, 0, bytes[..<(Self.fileHead - 8)])
        else { throw .damaged(offset: 0) }
        var contents = Contents(id: id, highestVersion: highest, end: Self.fileHead)
        while contents.end < bytes.count {
            switch Self.read(bytes, id: id, at: contents.end) {
            case .whole(let line):
                contents.lines.append(line)
                contents.highestVersion = max(contents.highestVersion, line.record.version)
                contents.end += line.length
            case .unfinished: return contents
            case .damaged(let next):
                guard Self.hasWhole(bytes, id: id, from: next) else { return contents }
                throw .damaged(offset: contents.end)
            }
        }
        return contents
    }

    /// The record that all of some bytes are, at a place in a file; `nil` when they are none.
    package static func record(_ bytes: [UInt8], id: UInt64, offset: Int) -> JournalRecord? {
        guard case .whole(let line) = Self.read(bytes, id: id, at: 0, placed: offset), line.length == bytes.count else {
            return nil
        }
        return line.record
    }

    private enum Finding {
        case whole(Line)
        /// It goes beyond the end.
        case unfinished
        /// It is none; one may be from the next place on.
        case damaged(next: Int)
    }

    /// Reads the record at a place.
    ///
    /// - Parameters:
    ///   - bytes: Where it is in.
    ///   - id: The file's.
    ///   - offset: Where in the bytes it begins.
    ///   - place: Where in the file that is; `nil` for the same.
    /// - Returns: What is there.
    private static func read(_ bytes: [UInt8], id: UInt64, at offset: Int, placed place: Int? = nil) -> Finding {
        let place = place ?? offset
        let head = bytes[offset..<min(offset + Self.recordHead, bytes.count)]
        guard head.count == Self.recordHead else {
            return head.first == Self.marker ? .unfinished : .damaged(next: offset + 1)
        }
        var reader = ByteReader(head.dropFirst())
        guard head.first == Self.marker, let kind = reader.number(1), let version = reader.number(8),
            let keyLength = reader.number(2), let payloadLength = reader.number(4), let headSum = reader.number(8),
            headSum == Self.sum(id, place, head.dropLast(8))
        else { return .damaged(next: offset + 1) }
        let length = Self.overhead + Int(keyLength) + Int(payloadLength)
        guard offset + length <= bytes.count else { return .unfinished }
        let whole = bytes[offset..<(offset + length)]
        var body = ByteReader(whole.dropFirst(Self.recordHead))
        guard let kind = JournalRecord.Kind(rawValue: UInt8(kind)), let key = body.text(Int(keyLength)),
            let payload = body.bytes(Int(payloadLength)), body.number(8) == Self.sum(id, place, whole.dropLast(8))
        else { return .damaged(next: offset + length) }
        let record = JournalRecord(kind, version: version, key: key, payload: Array(payload))
        return .whole(Line(record: record, offset: offset, length: length))
    }

    /// Whether a whole record begins anywhere from a place on.
    private static func hasWhole(_ bytes: [UInt8], id: UInt64, from start: Int) -> Bool {
        guard start < bytes.count else { return false }
        return (start..<bytes.count).contains { place in
            guard bytes[place] == Self.marker, case .whole = Self.read(bytes, id: id, at: place) else { return false }
            return true
        }
    }

    /// FNV-1a with 64 bits, as in ``Envelope``.
    private static func sum(_ id: UInt64, _ offset: Int, _ bytes: ArraySlice<UInt8>) -> UInt64 {
        var sum: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ byte: UInt8) { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for place in 0..<8 { add(UInt8(truncatingIfNeeded: id >> UInt64(8 * place))) }
        for place in 0..<8 { add(UInt8(truncatingIfNeeded: offset >> (8 * place))) }
        bytes.withUnsafeBufferPointer { for byte in $0 { add(byte) } }
        return sum
    }
}
