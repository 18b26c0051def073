// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis

/// What lies at the key of an entry: a head that can be read in `redis-cli`, and the envelope.
///
/// ```
/// HFC2V 1763914407000000 00000000000000000042 1763914406000000 5d8f03a1⏎ENVELOPE
/// HFC2T 1763914407000001 00000000000000000000 1763914407000001 0c44e7b2⏎
/// HFC2G 1763914407000002 00000000000000000042 1763914407000001 1763914408000000 9e1a6c3d⏎ENVELOPE
/// ```
///
/// The last eight digits are the first of the SHA-1 of what stands before the space in front of them: the envelope has a
/// checksum of its own, and of a head that was damaged nobody could tell. SHA-1, because servers have it for their scripts.
///
/// The numbers are version, token and ground: the version on the condition of which it was written, so that who saw that
/// version too, and has a higher token, may write over it. The first is an entry, the second a tombstone. The third is an entry that was written over a tombstone and ends before it would have: it ends at the time it names,
/// by the server's clock, and the key goes on as the tombstone, so that a writer from before the removal is still refused.
/// Anything else at the key is not ours.
struct CacheRecord: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        case entry
        case tombstone
        /// Whether it has ended, only the server can tell.
        case ending
    }

    /// How long the longest head is.
    static let longestHead = 87
    /// How much of an envelope has its mark.
    private static let envelopeHead = 32
    /// How long the others are.
    private static let head = 70
    /// How long the checksum is, and what stands around it.
    private static let seal = 10
    /// Above this, scripts cannot add 1.
    static let highestVersion: UInt64 = 9_007_199_254_740_990
    /// How far a version may be ahead of the server's clock, in µs: a day.
    ///
    /// Clocks of servers differ, and are set back; what is further ahead was damaged, and would outlive its time and refuse
    /// writers who are right.
    static let furthestAhead: UInt64 = 24 * 60 * 60 * 1_000_000

    let kind: Kind
    let version: UInt64
    let token: UInt64
    let payload: ArraySlice<UInt8>

    /// Reads what is at a key; `nil` when it is empty or not ours.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= Self.head, bytes[0..<4].elementsEqual("HFC2".utf8), bytes[5] == UInt8(ascii: " "),
            let version = Self.decimal(bytes[6..<22]), version <= Self.highestVersion,
            bytes[22] == UInt8(ascii: " "), let token = Self.decimal(bytes[23..<43]),
            bytes[43] == UInt8(ascii: " "), Self.decimal(bytes[44..<60]) != nil
        else { return nil }
        let head: Int
        switch bytes[4] {
        case UInt8(ascii: "V"): (self.kind, head) = (.entry, Self.head)
        case UInt8(ascii: "T"): (self.kind, head) = (.tombstone, Self.head)
        case UInt8(ascii: "G"):
            guard bytes.count >= Self.longestHead, bytes[60] == UInt8(ascii: " "), Self.decimal(bytes[61..<77]) != nil
            else { return nil }
            (self.kind, head) = (.ending, Self.longestHead)
        default: return nil
        }
        guard bytes[head - 1] == UInt8(ascii: "\n"), bytes[head - Self.seal] == UInt8(ascii: " "),
            Self.hexadecimal(bytes[head - Self.seal + 1..<head - 1]) == SHA1.start(bytes[..<(head - Self.seal)])
        else { return nil }
        self.version = version
        self.token = token
        self.payload = bytes[head...]
    }

    /// What a reader gets of it.
    ///
    /// Versions are times, or a little more where writes came within one µs or the server's clock went back. Further ahead
    /// than ``furthestAhead``, it is nothing of ours, as for the scripts.
    ///
    /// - Parameter time: The server's clock, in µs.
    /// - Returns: The entry.
    func entry(at time: UInt64) -> TierEntry {
        guard self.version <= time + Self.furthestAhead else { return .absent }
        // What is cut off is of somebody else, or damaged; under a mark that is none, nothing could invalidate it.
        let hasPayload =
            self.kind != .tombstone && self.payload.count <= RedisCacheTier.maximumPayload
            && (Envelope.mark(of: Array(self.payload.prefix(Self.envelopeHead))) ?? 0) < MarkRecord.limit
        let age = Duration.microseconds(Int64(clamping: time - min(time, self.version)))
        return TierEntry(payload: hasPayload ? Array(self.payload) : nil, version: self.version, age: age)
    }

    /// A number of a fixed width.
    static func decimal(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            guard (0x30...0x39).contains(digit) else { return nil }
            let (tenfold, isTooMuch) = number.multipliedReportingOverflow(by: 10)
            let (sum, isStillTooMuch) = tenfold.addingReportingOverflow(UInt64(digit - 0x30))
            guard !isTooMuch, !isStillTooMuch else { return nil }
            number = sum
        }
        return number
    }

    /// A number of eight hexadecimal digits, as servers write them.
    private static func hexadecimal(_ digits: ArraySlice<UInt8>) -> UInt32? {
        var number: UInt32 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: number = number << 4 | UInt32(digit - 0x30)
            case 0x61...0x66: number = number << 4 | UInt32(digit - 0x57)
            default: return nil
            }
        }
        return number
    }

    /// A number with leading zeros.
    static func digits(_ number: UInt64, width: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
}
