// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// A million damaged streams of real replies, through everything that reads them: an error, or an answer, and never a
/// crash.
@Suite("Damaged replies", .timeLimit(.minutes(3)))
struct ReplyFuzzTests {
    private static let blocks = 8
    private static let streamsPerBlock = 130_000

    /// What servers say: grants, places in a queue, descriptions, maps of a cluster, greetings, messages, errors.
    private static let corpus: [[UInt8]] = [
        ":1763900000000123\r\n:0\r\n:-1\r\n",
        """
        *10\r\n:1\r\n:3\r\n:1500\r\n$8\r\n0123abcd\r\n$48\r\n00112233aabbccdd-7\thost\t42\t17639000\tprogram\tlabe\r\n\
        $16\r\n1763900000000123\r\n:250000\r\n:9000\r\n:0\r\n$1\r\nx\r\n
        """,
        """
        *3\r\n:0\r\n*7\r\n$8\r\n0123abcd\r\n$0\r\n\r\n$1\r\n5\r\n:1\r\n:2\r\n:1\r\n$2\r\np4\r\n*7\r\n$8\r\nfedc3210\r\n:77\r\n\
        $0\r\n\r\n$1\r\ns\r\n:50\r\n$1\r\nb\r\n$8\r\n00000000\r\n
        """,
        """
        *2\r\n*4\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n*3\r\n$0\r\n\r\n:7003\r\n$2\r\nid\r\n\
        *3\r\n:5461\r\n:16383\r\n*2\r\n$1\r\n?\r\n:7001\r\n
        """,
        "-MOVED 3999 127.0.0.1:6381\r\n-ASK 1 :70\r\n-NOPERM this user has no permissions to run the 'set' command\r\n",
        "*3\r\n$7\r\nmessage\r\n$4\r\nhf:c\r\n$34\r\ng 000102030405060708090a0b0c0d0e0f\r\n+OK\r\n$-1\r\n*-1\r\n",
        "$62\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nuptime:1\r\n\r\n",
    ].map { Array($0.utf8) }

    @Test
    func `undamaged, all are read`() throws {
        for stream in Self.corpus {
            let reader = try ReplyReader()
            var replies: [RedisReply] = []
            try stream.withUnsafeBytes { try reader.read($0, into: &replies) }
            #expect(!replies.isEmpty)
        }
        let reader = try ReplyReader()
        var replies: [RedisReply] = []
        for stream in Self.corpus[1...3] { try stream.withUnsafeBytes { try reader.read($0, into: &replies) } }
        #expect(throws: Never.self) {
            _ = try ScriptReplies.acquire(replies[0], resource: "x")
            _ = try ScriptReplies.status(replies[1], of: "x")
            _ = try SlotMap(replies[2], from: RedisAddress(host: "h", port: 1))
        }
    }

    @Test
    func `a server that answers more than it was asked is believed in what it was asked`() throws {
        let reader = try ReplyReader()
        var replies: [RedisReply] = []
        try Array("*3\r\n:1\r\n:0\r\n:7\r\n*0\r\n".utf8).withUnsafeBytes { try reader.read($0, into: &replies) }
        #expect(try ScriptReplies.renewals(replies[0], count: 1) == [.renewed(revokeRequested: false)])
        #expect(throws: LockError.self) { try ScriptReplies.renewals(replies[1], count: 1) }
    }

    @Test(arguments: 0..<blocks)
    func `a hundred and thirty thousand damaged streams`(block: Int) throws {
        var generator = SeededGenerator(seed: UInt64(block))
        let resource: Resource = "x"
        let asked = RedisAddress(host: "h", port: 1)
        var answers = 0
        for _ in 0..<Self.streamsPerBlock {
            var stream = Self.corpus[Int.random(in: Self.corpus.indices, using: &generator)]
            Self.damage(&stream, &generator)
            let cut = Int.random(in: 0...stream.count, using: &generator)
            let reader = try ReplyReader()
            var replies: [RedisReply] = []
            for part in [stream[..<cut], stream[cut...]] {
                do { try part.withUnsafeBytes { try reader.read($0, into: &replies) } } catch { break }
            }
            for reply in replies {
                if (try? ScriptReplies.acquire(reply, resource: resource)) != nil { answers += 1 }
                if (try? ScriptReplies.convert(reply)) != nil { answers += 1 }
                if (try? ScriptReplies.status(reply, of: resource)) != nil { answers += 1 }
                if let map = try? SlotMap(reply, from: asked) { answers += map.masters.count }
                if case .error(let line) = reply {
                    answers += RedisErrorLine(line).error.message.isEmpty ? 0 : 1
                    if ClusterRedirect(line, from: asked) != nil { answers += 1 }
                }
                if case .string(let bytes)? = reply.elements?.last, ScriptReplies.signal(bytes) != nil { answers += 1 }
            }
            var handshake = Handshake(RedisConfiguration())
            _ = try? handshake.receive(replies)
        }
        // Damage does not make everything unreadable.
        #expect(answers > Self.streamsPerBlock / 20)
    }

    /// One to four bytes become others, vanish, come twice, or move.
    private static func damage(_ stream: inout [UInt8], _ generator: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !stream.isEmpty {
            let index = Int.random(in: stream.indices, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: stream[index] = UInt8.random(in: .min ... .max, using: &generator)
            // What means something to the protocol is worth more than noise.
            case 1: stream[index] = Array("*$:+-0123456789\r\n".utf8).randomElement(using: &generator) ?? 0
            case 2: stream.remove(at: index)
            case 3: stream.insert(stream[index], at: index)
            case 4: stream.swapAt(index, Int.random(in: stream.indices, using: &generator))
            default: stream.removeSubrange(index...)
            }
        }
    }
}
