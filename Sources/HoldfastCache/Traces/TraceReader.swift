// SPDX-License-Identifier: Apache-2.0

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Reads a trace access by access, from chunks of bytes of any length.
public struct TraceReader {
    /// Gives the next bytes, `nil` at the end; an empty chunk is not the end.
    public typealias Source = () throws(TraceError) -> [UInt8]?

    /// A line of text longer than this is no key.
    private static let longestLine = 256
    /// A line of the ARC format that stands for more keys than this is taken for damage.
    private static let longestRun: UInt64 = 1 << 24

    private let format: TraceFormat
    private let source: Source
    private var chunk: [UInt8] = []
    private var position = 0
    private var line = 0
    /// What is left of the last line of the ARC format.
    private var run: Range<UInt64> = 0..<0

    /// Reads from a source; a decompressor is one.
    public init(format: TraceFormat, source: @escaping Source) {
        self.format = format
        self.source = source
    }

    /// Reads from bytes in memory.
    public init(format: TraceFormat, bytes: [UInt8]) {
        var rest: [UInt8]? = bytes
        self.init(format: format) { () throws(TraceError) -> [UInt8]? in
            defer { rest = nil }
            return rest
        }
    }

    /// Reads from a file descriptor, which stays open.
    public init(format: TraceFormat, fileDescriptor: Int32) {
        self.init(format: format) { () throws(TraceError) -> [UInt8]? in
            while true {
                var failure: Int32 = 0
                let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
                    let length = read(fileDescriptor, buffer.baseAddress, buffer.count)
                    count = max(0, length)
                    if length < 0 { failure = errno }
                }
                if failure == 0 { return bytes.isEmpty ? nil : bytes }
                if failure != EINTR { throw TraceError.unreadable(failure) }
            }
        }
    }

    /// The next access; `nil` at the end.
    public mutating func next() throws(TraceError) -> TraceRequest? {
        switch self.format {
        case .lirs: try self.nextLine()
        case .arc: try self.nextInRun()
        case .b32: try self.nextRecord(4) { TraceRequest(key: $0.bigEndian(0, 4)) }
        case .b64: try self.nextRecord(8) { TraceRequest(key: $0.bigEndian(0, 8)) }
        case .u32: try self.nextRecord(4) { TraceRequest(key: $0.littleEndian(0, 4)) }
        case .oracle:
            try self.nextRecord(24) {
                TraceRequest(key: $0.littleEndian(4, 8), size: Int($0.littleEndian(12, 4)))
            }
        }
    }

    private mutating func nextLine() throws(TraceError) -> TraceRequest? {
        while let text = try self.readLine() {
            let fields = Self.fields(text)
            if fields.isEmpty || fields == [[UInt8(ascii: "*")]] { continue }
            guard fields.count == 1, let key = Self.number(fields[0]) else {
                throw .malformedLine(self.line)
            }
            return TraceRequest(key: key)
        }
        return nil
    }

    private mutating func nextInRun() throws(TraceError) -> TraceRequest? {
        while self.run.isEmpty {
            guard let text = try self.readLine() else { return nil }
            let fields = Self.fields(text)
            if fields.isEmpty { continue }
            guard
                fields.count >= 2,
                let start = Self.number(fields[0]),
                let count = Self.number(fields[1]),
                count <= Self.longestRun,
                start <= UInt64.max - count
            else { throw .malformedLine(self.line) }
            self.run = start..<start + count
        }
        let key = self.run.lowerBound
        self.run = key + 1..<self.run.upperBound
        return TraceRequest(key: key)
    }

    private mutating func nextRecord(
        _ length: Int,
        _ decode: (ArraySlice<UInt8>) -> TraceRequest
    ) throws(TraceError) -> TraceRequest? {
        while self.chunk.count - self.position < length {
            guard try self.refill() else {
                let left = self.chunk.count - self.position
                guard left == 0 else { throw .truncated(left) }
                return nil
            }
        }
        let record = self.chunk[self.position..<self.position + length]
        self.position += length
        return decode(record)
    }

    /// The next line without its end; the last one need not have one.
    private mutating func readLine() throws(TraceError) -> ArraySlice<UInt8>? {
        var searched = self.position
        while true {
            if let end = self.chunk[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { self.position = end + 1 }
                self.line += 1
                return self.chunk[self.position..<end]
            }
            let length = self.chunk.count - self.position
            guard length <= Self.longestLine else { throw .malformedLine(self.line + 1) }
            guard try self.refill() else {
                defer { self.position = self.chunk.count }
                self.line += 1
                return length > 0 ? self.chunk[self.position...] : nil
            }
            searched = self.position + length
        }
    }

    /// Adds the next bytes to those not yet read.
    private mutating func refill() throws(TraceError) -> Bool {
        guard let more = try self.source() else { return false }
        self.chunk.removeFirst(self.position)
        self.position = 0
        self.chunk.append(contentsOf: more)
        return true
    }

    private static func fields(_ text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        text.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
    }

    /// A decimal number that fits.
    private static func number(_ text: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for byte in text {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            let (tenfold, isTooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, isStillTooLarge) = tenfold.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
            if isTooLarge || isStillTooLarge { return nil }
            value = sum
        }
        return text.isEmpty ? nil : value
    }
}

extension ArraySlice<UInt8> {
    fileprivate func bigEndian(_ offset: Int, _ length: Int) -> UInt64 {
        self[self.startIndex + offset..<self.startIndex + offset + length].reduce(0) { $0 << 8 | UInt64($1) }
    }

    fileprivate func littleEndian(_ offset: Int, _ length: Int) -> UInt64 {
        self[self.startIndex + offset..<self.startIndex + offset + length].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
