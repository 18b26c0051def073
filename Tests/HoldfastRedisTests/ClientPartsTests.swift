// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import NIOCore
import Testing

@Suite
struct ClientPartsTests {
    @Test(arguments: [
        ("NOSCRIPT No matching script", RedisErrorLine.Retry.here, LockError.Code.storeUnavailable),
        ("BUSY Redis is busy running a script", .here, .storeUnavailable),
        ("LOADING Redis is loading the dataset in memory", .here, .storeUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", .here, .storeUnavailable),
        ("CLUSTERDOWN Hash slot not served", .here, .storeUnavailable),
        ("MASTERDOWN Link with MASTER is down", .elsewhere, .storeUnavailable),
        ("READONLY You can't write against a read only replica.", .elsewhere, .storeRefused),
        ("MOVED 3999 127.0.0.1:6381", .elsewhere, .storeRefused),
        ("ASK 3999 127.0.0.1:6381", .elsewhere, .storeRefused),
        ("OOM command not allowed when used memory > 'maxmemory'.", .never, .storeRefused),
        ("MISCONF Redis is configured to save RDB snapshots", .never, .storeRefused),
        ("NOREPLICAS Not enough good replicas to write.", .never, .storeRefused),
        ("CROSSSLOT Keys in request don't hash to the same slot", .never, .storeRefused),
        ("NOAUTH Authentication required.", .never, .storeRefused),
        ("WRONGPASS invalid username-password pair", .never, .storeRefused),
        ("NOPERM this user has no permissions", .never, .storeRefused),
        ("WRONGTYPE Operation against a key", .never, .storeCorrupted),
        ("ERR something new", .never, .storeRefused),
    ])
    func `R14 every error line says whether to try again and what to do`(
        line: String,
        retry: RedisErrorLine.Retry,
        code: LockError.Code
    ) {
        let meaning = RedisErrorLine(line)
        #expect(meaning.retry == retry)
        #expect(meaning.code == code)
        #expect(meaning.advice.count > 5)
        #expect(meaning.error.message.contains(meaning.kind))
        // Once is enough.
        #expect(!meaning.error.message.contains("\(meaning.kind): \(meaning.kind)"))
    }

    @Test(arguments: [
        ("@user_script: 50: -READONLY You can't write against a read only replica.", "READONLY"),
        ("@user_script: 7: -OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("@user_script: 7: WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
        ("@user_script: 7: -NOPERM this user has no permissions to access one of the keys", "NOPERM"),
        ("@user_script: 7: -MAYBE it is something else", "ERR"),
        ("attempt to compare nil with number", "ERR"),
    ])
    func `what went wrong inside a script of Redis before 7 is known by its own word`(said: String, kind: String) {
        let line = RedisErrorLine("ERR Error running script (call to f_f3): @user_script:50: " + said)
        #expect(line.kind == kind)
        guard kind != "ERR", let start = said.firstRange(of: kind)?.lowerBound else { return }
        let plain = RedisErrorLine(String(said[start...]))
        #expect(line.retry == plain.retry && line.code == plain.code && line.advice == plain.advice)
    }

    @Test
    func `a password for Sentinels is in no description of them`() throws {
        let configuration = try RedisConfiguration(url: "redis+sentinel://u:p@a,b/main?sentinel-password=canary")
        let sentinels = try #require(configuration.sentinels)
        var dumped = ""
        dump(sentinels, to: &dumped)
        for text in ["\(sentinels)", String(reflecting: sentinels), dumped] {
            #expect(!text.contains("canary") && text.contains("a:26379,b:26379/main"))
        }
    }

    @Test
    func `why no Sentinel knows the master is said as it is`() {
        let cases: [([SentinelAnswer], String)] = [
            ([.silent], "the Sentinel does not answer"), ([.silent, .silent], "none of the 2 Sentinels answers"),
            ([.stranger], "what answers there is no Sentinel"),
            ([.stranger, .stranger], "what answers at the 2 addresses is no Sentinel"),
            ([.knowsNone], "the Sentinel knows no master named main"),
            (
                [.knowsNone, .silent, .stranger],
                "none of 3 Sentinels knows a master named main; 1 does not answer, 1 is no Sentinel"
            ),
            (
                [.refuses("it wants a password"), .silent, .silent],
                "none of 3 Sentinels knows a master named main; 2 do not answer, it wants a password"
            ),
        ]
        for (answers, sentence) in cases { #expect(SentinelAnswer.sentence(answers, name: "main") == sentence) }
    }

    @Test
    func `an error line that quotes arguments is cut before them`() {
        let line = "ERR unknown command 'AUTH', with args beginning with: 'canary-password' "
        #expect(!RedisErrorLine(line).error.message.contains("canary"))
        #expect(RedisErrorLine(line).error.message.contains("unknown command"))
    }

    @Test
    func `a URL gives every setting`() throws {
        let url = "redis://us%40er:p%3Aw%2F%3F@[::1]:7000/3?prefix=a%20b:&timeout=250ms&name=me&eviction=allow"
        let configuration = try RedisConfiguration(url: url)
        #expect(configuration.host == "::1")
        #expect(configuration.port == 7000)
        #expect(configuration.user == "us@er")
        #expect(configuration.password == "p:w/?")
        #expect(configuration.database == 3)
        #expect(configuration.prefix == "a b:")
        #expect(configuration.timeout == .milliseconds(250))
        #expect(configuration.clientName == "me")
        #expect(configuration.allowsEviction)
        #expect(configuration.description == "redis://[::1]:7000/3")
        #expect(!"\(configuration) \(String(reflecting: configuration))".contains("p:w"))
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(!dumped.contains("p:w"))

        let plain = try RedisConfiguration(url: "redis://:secret@example.org")
        #expect(plain.user == nil && plain.password == "secret")
        #expect(plain.host == "example.org" && plain.port == 6379 && plain.database == 0 && !plain.allowsEviction)
        #expect(try RedisConfiguration(url: "redis://h?timeout=2s").timeout == .seconds(2))
        #expect(try RedisConfiguration(url: "redis://h/").database == 0)
    }

    @Test(arguments: [
        "h:6379", "http://h", "redis://h:port", "redis://h:0", "redis://h:70000", "redis://h/x", "redis://h/-1",
        "redis://u:canary%4@h", "redis://u:canary%ff@h", "redis://canary@h", "redis://h?timeout=0",
        "redis://h?timeout=x",
        "redis://h?what=canary", "redis://h?eviction=yes", "redis://h?prefix={a}", "redis://::1", "redis://[::1",
        "redis://h#canary", "redis://h?name=a%20b", "redis://h?timeout=1e300",
    ])
    func `a bad URL is a clear error without its secrets`(url: String) {
        let error = #expect(throws: LockError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.description.contains("canary") == false)
    }

    @Test(arguments: ["redis://a,b,c", "redis://a:1,b:2"])
    func `what this build has not is said so`(url: String) {
        let error = #expect(throws: LockError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .unsupported)
    }

    @Test
    func `SHA-1 gives the published values`() {
        #expect(SHA1.hex("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(SHA1.hex("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d")
        let text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        #expect(SHA1.hex(text) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1")
    }

    @Test
    func `commands are encoded byte for byte`() {
        var encoder = CommandEncoder(ByteBuffer())
        encoder.begin(4)
        encoder.part("SET")
        encoder.part("a", "b", "é", "\r\n")
        encoder.part(-120)
        encoder.part(RequestID(high: 1, low: .max))
        let expected =
            "*4\r\n$3\r\nSET\r\n$6\r\nabé\r\n\r\n$4\r\n-120\r\n$32\r\n0000000000000001ffffffffffffffff\r\n"
        #expect(String(buffer: encoder.buffer) == expected)
        for number in [0, 9, 10, 99, 100, Int64.max, Int64.min] {
            var encoder = CommandEncoder(ByteBuffer())
            encoder.part(number)
            #expect(String(buffer: encoder.buffer) == "$\(String(number).count)\r\n\(number)\r\n")
        }
    }

    @Test
    func `findings follow what INFO says`() {
        let bad = "redis_version:5.0.3\r\nrole:slave\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n"
        let severities = Diagnosis.findings(info: bad).map(\.severity)
        #expect(severities == [.problem, .problem, .warning, .warning])
        let good = "redis_version:7.0.15\nrole:master\nconnected_slaves:0\nmaxmemory_policy:noeviction\naof_enabled:1"
        #expect(Diagnosis.findings(info: good).allSatisfy { $0.severity == .ok && $0.advice == nil })
        #expect(Diagnosis.milliseconds(.microseconds(1234)) == "1.23 ms")
        #expect(Diagnosis.milliseconds(.microseconds(-20)) == "-0.02 ms")
    }
}
