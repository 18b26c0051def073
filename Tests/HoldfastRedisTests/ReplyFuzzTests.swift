// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// A million damaged streams of real replies, through everything that reads them: an error, or an answer, and never a
/// crash.
@Suite("Damaged replies", .timeLimit(.minutes(5)))
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
        "*3\r\n:1\r\n:0\r\n:2\r\n*1\r\n:1\r\n:2\r\n:-7\r\n",
        "*2\r\n$2\r\n17\r\n*2\r\n$8\r\nhf:{x}:h\r\n$10\r\nhf:{y/1}:h\r\n",
        """
        *2\r\n$1\r\ny\r\n*3\r\n:0\r\n*7\r\n$8\r\n0123abcd\r\n$0\r\n\r\n$1\r\n5\r\n:1\r\n:2\r\n:0\r\n$1\r\nx\r\n*7\r\n\
        $8\r\nfedc3210\r\n:77\r\n$0\r\n\r\n$1\r\nx\r\n:0\r\n$1\r\nf\r\n$8\r\n00000000\r\n
        """,
        "*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$4\r\n6379\r\n$12\r\nconfig-epoch\r\n$1\r\n3\r\n",
        """
        $116\r\n# Server\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\nserver_time_usec:1763900000000123\r\n\
        uptime_in_seconds:99\r\n\r\n
        """,
        """
        *5\r\n:1\r\n$32\r\n000102030405060708090a0b0c0d0e0f\r\n:1763900000000123\r\n$32\r\n\
        101112131415161718191a1b1c1d1e1f\r\n:-1000\r\n
        """,
        "-ASK 1 127.0.0.1:70\r\n:500\r\n$35\r\nG17|00|1|2|3|4|1|0|0|0|0|0|0||0||||\r\n",
    ].map { Array($0.utf8) }

    /// What is read with: all commands' readers.
    private static let commands = LockCommands(prefix: "")

    private static func reader<Reply>(of command: LockCommand<Reply>) -> @Sendable (RedisClient.Answer) -> Bool {
        { command.understands($0) }
    }

    private static let readers: [@Sendable (RedisClient.Answer) -> Bool] = {
        let request = Make.request("x")
        return [
            reader(of: commands.renew([Renewal(key: request.key, lease: .seconds(1))])),
            reader(of: commands.renew(Array(repeating: Renewal(key: request.key, lease: .seconds(1)), count: 3))),
            reader(of: commands.release(request.key)), reader(of: commands.handOver(request.key, channel: "c")),
            reader(of: commands.withdraw(request.key)),
            reader(of: commands.lift(request.key, to: .zero)), reader(of: commands.revoke("x")),
            reader(of: commands.force("x")), reader(of: commands.statuses(["x", "y"])),
            reader(of: commands.scan("*", from: 0)), reader(of: commands.waits(of: request.owner, for: "x")),
        ]
    }()

    /// How many of the readers make something of a reply.
    private static func readAll(_ reply: RedisReply) -> Int {
        let answer = RedisClient.Answer(reply: reply, isRepeat: true)
        var answers = Self.readers.count { $0(answer) }
        if MasterReport(reply) != nil { answers += 1 }
        if let text = reply.text, ServerRun.Report(info: text).clock != nil { answers += 1 }
        if case .string(let bytes) = reply, LeftBehind.isWhole(bytes) { answers += 1 }
        return answers
    }

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
        // Each of those is something to one of the readers at least.
        for stream in Self.corpus[7...] {
            let reader = try ReplyReader()
            var replies: [RedisReply] = []
            try stream.withUnsafeBytes { try reader.read($0, into: &replies) }
            #expect(replies.reduce(0) { $0 + Self.readAll($1) } > 0, "\(String(decoding: stream, as: UTF8.self))")
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
    func `N6 a hundred and thirty thousand damaged streams`(block: Int) throws {
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
                // All of them would take minutes.
                let answer = RedisClient.Answer(reply: reply, isRepeat: true)
                for _ in 0..<2 where Self.readers.randomElement(using: &generator)?(answer) == true { answers += 1 }
                if MasterReport(reply) != nil { answers += 1 }
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
            if replies.count >= 3, LeftBehind(Array(replies.prefix(3)), of: Self.commands.keys(of: resource)) != nil {
                answers += 1
            }
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
