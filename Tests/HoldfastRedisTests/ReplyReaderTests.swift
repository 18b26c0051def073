// SPDX-License-Identifier: Apache-2.0

import HoldfastRedis
import Testing

@Suite
struct ReplyReaderTests {
    private static let stream =
        "+OK\r\n:-42\r\n$5\r\nhel\r\n\r\n$-1\r\n*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n-ERR no\r\n*-1\r\n$0\r\n\r\n"
    private static let replies: [RedisReply] = [
        .status("OK"), .integer(-42), .string(Array("hel\r\n".utf8)), .null,
        .array([.integer(1), .array([.string([0x61]), .array([])]), .error("ERR no")]), .null, .string([]),
    ]

    private static func read(_ parts: [[UInt8]], limits: ReplyReader.Limits = .init()) throws -> [RedisReply] {
        let reader = try ReplyReader(limits: limits)
        var replies: [RedisReply] = []
        for part in parts { try part.withUnsafeBytes { try reader.read($0, into: &replies) } }
        return replies
    }

    private static func failure(_ text: String, limits: ReplyReader.Limits = .init()) -> ReplyReader.Failure? {
        do {
            _ = try self.read([Array(text.utf8)], limits: limits)
            return nil
        } catch {
            return error as? ReplyReader.Failure
        }
    }

    @Test
    func `replies come out the same wherever the stream is cut`() throws {
        let bytes = Array(Self.stream.utf8)
        #expect(try Self.read([bytes]) == Self.replies)
        #expect(try Self.read(bytes.map { [$0] }) == Self.replies)
        for cut in bytes.indices {
            #expect(try Self.read([Array(bytes[..<cut]), Array(bytes[cut...])]) == Self.replies)
        }
    }

    @Test(arguments: ["HTTP/1.1 400 Bad Request\r\n", "%1\r\n:1\r\n:2\r\n", ":12x\r\n", "\0\0\0\0", "!\r\n"])
    func `what is not RESP2 is refused`(text: String) {
        #expect(Self.failure(text) == .notRedis)
    }

    @Test
    func `N7 a line, a string, an array, a reply and a nesting have limits`() {
        #expect(Self.failure("+" + String(repeating: "a", count: 200_000)) == .tooLarge)
        #expect(Self.failure("$999999999999\r\nabc") == .tooLarge)
        #expect(Self.failure("$" + String(repeating: "9", count: 60)) != .outOfMemory)
        #expect(Self.failure("*2147483647\r\n") == .tooLarge)
        #expect(Self.failure(String(repeating: "*1\r\n", count: 12)) != nil)
        var limits = ReplyReader.Limits()
        limits.reply = 1000
        let part = "$600\r\n" + String(repeating: "b", count: 600) + "\r\n"
        #expect(Self.failure(part + part, limits: limits) == nil)
        #expect(Self.failure("*2\r\n" + part + part, limits: limits) == .tooLarge)
        limits.elements = 10
        #expect(Self.failure("*6\r\n" + String(repeating: "*1\r\n:1\r\n", count: 6), limits: limits) == .tooLarge)
    }

    @Test
    func `an endless line costs no more than its limit`() throws {
        let reader = try ReplyReader()
        var replies: [RedisReply] = []
        let part = [UInt8](repeating: UInt8(ascii: "a"), count: 16 * 1024)
        var count = 0
        #expect(throws: ReplyReader.Failure.tooLarge) {
            try [UInt8(ascii: "+")].withUnsafeBytes { try reader.read($0, into: &replies) }
            while count < 1000 {
                count += 1
                try part.withUnsafeBytes { try reader.read($0, into: &replies) }
            }
        }
        #expect(count <= 5)
    }

    @Test
    func `random bytes and damaged streams never crash`() {
        var generator = SystemRandomNumberGenerator()
        let bytes = Array(Self.stream.utf8)
        for _ in 0..<20_000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                damaged[Int.random(in: damaged.indices, using: &generator)] = UInt8.random(in: .min ... .max)
            }
            let cut = Int.random(in: damaged.indices, using: &generator)
            _ = try? Self.read([Array(damaged[..<cut]), Array(damaged[cut...])])
        }
    }
}
