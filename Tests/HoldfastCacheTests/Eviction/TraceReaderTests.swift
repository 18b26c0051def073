// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Reading traces")
struct TraceReaderTests {
    private static func read(_ format: TraceFormat, _ bytes: [UInt8], chunk: Int) throws(TraceError) -> [TraceRequest] {
        var rest = bytes[...]
        var reader = TraceReader(format: format) { () throws(TraceError) -> [UInt8]? in
            guard !rest.isEmpty else { return nil }
            defer { rest = rest.dropFirst(chunk) }
            return [UInt8](rest.prefix(chunk))
        }
        var requests: [TraceRequest] = []
        while let request = try reader.next() { requests.append(request) }
        return requests
    }

    @Test(arguments: [1, 2, 3, 7, 1000])
    func everyFormatIsReadWhateverTheChunks(chunk: Int) throws {
        let lirs = try Self.read(.lirs, Array("12\n\n*\r\n 7\r\n18446744073709551615".utf8), chunk: chunk)
        #expect(lirs.map(\.key) == [12, 7, .max])
        let arc = try Self.read(.arc, Array("5 3 0 1\n9 0 0 2\n\n100 1 0 3\n".utf8), chunk: chunk)
        #expect(arc.map(\.key) == [5, 6, 7, 100])
        let b32 = try Self.read(.b32, [0, 0, 1, 2, 255, 0, 0, 0], chunk: chunk)
        #expect(b32.map(\.key) == [258, 0xFF00_0000])
        let u32 = try Self.read(.u32, [2, 1, 0, 0], chunk: chunk)
        #expect(u32.map(\.key) == [258])
        let b64 = try Self.read(.b64, [0, 0, 0, 0, 0, 0, 1, 2], chunk: chunk)
        #expect(b64.map(\.key) == [258])
        let record: [UInt8] = [9, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0] + [UInt8](repeating: 255, count: 8)
        let oracle = try Self.read(.oracle, record + record, chunk: chunk)
        #expect(oracle == [TraceRequest(key: 258, size: 512), TraceRequest(key: 258, size: 512)])
    }

    @Test(arguments: ["x", "1 2", "-1", "18446744073709551616", "1x", String(repeating: "1", count: 5000)])
    func aLineThatIsNoKeyIsAnError(line: String) {
        #expect(throws: TraceError.malformedLine(2)) {
            try Self.read(.lirs, Array("1\n\(line)\n2\n".utf8), chunk: 4)
        }
    }

    @Test(arguments: ["5", "5 x 0 0", "5 99999999999 0 0", "18446744073709551615 2 0 0"])
    func aRunThatCannotBeIsAnError(line: String) {
        #expect(throws: TraceError.malformedLine(1)) { try Self.read(.arc, Array(line.utf8), chunk: 4) }
    }

    @Test(arguments: [TraceFormat.b32, .b64, .u32, .oracle])
    func aRecordCutShortIsAnError(format: TraceFormat) {
        for length in [1, 3, 25, 47] where length % 4 != 0 {
            #expect(throws: TraceError.self) { try Self.read(format, [UInt8](repeating: 1, count: length), chunk: 2) }
        }
    }

    @Test(arguments: TraceFormat.allCases)
    func anEmptyTraceHasNoRequests(format: TraceFormat) throws {
        #expect(try Self.read(format, [], chunk: 1).isEmpty)
    }

    @Test(arguments: TraceFormat.allCases)
    func damagedBytesGiveRequestsOrATypedError(format: TraceFormat) {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<200 {
            let length = Int.random(in: 0..<200, using: &generator)
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            do {
                _ = try Self.read(format, bytes, chunk: Int.random(in: 1..<50, using: &generator))
            } catch {
                #expect(error != .unreadable(0))
            }
        }
    }

    @Test
    func aSourceThatFailsAndADescriptorThatIsNotOpenAreErrors() {
        var reader = TraceReader(format: .b32) { () throws(TraceError) -> [UInt8]? in throw .source("broken") }
        #expect(throws: TraceError.source("broken")) { _ = try reader.next() }
        var closed = TraceReader(format: .b32, fileDescriptor: -1)
        #expect(throws: TraceError.self) { _ = try closed.next() }
    }
}
