// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCommands
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// What is given to `holdfast cache`: by bytes, to the letter, and within the limits.
@Suite("What is put into a cache on the command line", .timeLimit(.minutes(5)))
struct CacheInputTests {
    /// Two texts that Swift holds for equal, and a server does not.
    private static let (one, two) = ("caf\u{E9}", "cafe\u{301}")

    /// Whether a text has another in it, byte for byte.
    private static func has(_ text: String, _ part: String) -> Bool {
        Array(text.utf8).firstRange(of: Array(part.utf8)) != nil
    }

    @Test("tags of other bytes are other tags, also where Swift holds them for equal")
    func tags() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "c", "both", "1", "--tag", Self.one, "--tag", Self.two).status == 0)
        let both = try await stage.run("get", "c", "both", "--format", "json").output
        #expect(Self.has(both, #""tags":["\#(Self.two)","\#(Self.one)"]"#), "\(both)")
        let lines = [
            #"{"key":"a","value":1,"tags":["\#(Self.one)","\#(Self.one)"]}"#,
            #"{"key":"b","value":1,"tags":["\#(Self.two)"]}"#,
            #"{"key":"both2","value":1,"tags":["\#(Self.one)","\#(Self.two)"]}"#,
        ]
        #expect(try await stage.run(["warm", "c", "@"], input: lines.joined(separator: "\n")).status == 0)
        #expect(try await stage.run("invalidate", "c", "--tag", Self.two).status == 0)
        let states = try await stage.run("ls", "c", "--format", "jsonl").output.split(separator: "\n")
        for (key, state) in [("a", "fresh"), ("b", "invalidated"), ("both", "invalidated"), ("both2", "invalidated")] {
            #expect(states.contains { $0.hasPrefix(#"{"key":"\#(key)","state":"\#(state)""#) }, "\(key): \(states)")
        }
        let again = try await stage.run(["warm", "c", "@", "--if-absent"], input: lines.joined(separator: "\n"))
        #expect(again.output == "loaded 2 of 3 lines, left 1 alone\n", "\(again.errors)")
        // Each alone ends an entry that has both, also where no other entry is looked at.
        for tag in [Self.one, Self.two] {
            #expect(try await stage.run("set", "c", "both", "1", "--tag", Self.one, "--tag", Self.two).status == 0)
            #expect(try await stage.run("invalidate", "c", "--tag", tag).status == 0)
            #expect(try await stage.run("get", "c", "both").status == 1)
        }
    }

    @Test("caches whose names have other bytes are counted apart")
    func names() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", Self.one, "k", "1").status == 0)
        for key in ["k", "l"] { #expect(try await stage.run("set", Self.two, key, "1").status == 0) }
        let all = try await stage.run("stats", "--format", "json").output
        #expect(Self.has(all, #"{"name":"\#(Self.one)","entries":1,"#), "\(all)")
        #expect(Self.has(all, #"{"name":"\#(Self.two)","entries":2,"#), "\(all)")
        let first = try await stage.run("stats", Self.one, "--format", "json").output
        #expect(Self.has(first, #"{"name":"\#(Self.one)","entries":1,"#) && !Self.has(first, Self.two))
    }

    @Test(
        "JSON is what the standard says, and no more",
        arguments: [
            ("1", true), (" [1, -0.5e+3, 0, 10E2] ", true), (#"{"a":{"b":[{},[],"\u00e9\n\"\/"]},"c":null}"#, true),
            ("true", true), ("[1,]", false), (#"{"a":1,}"#, false), ("[,1]", false), ("[1,,2]", false), ("{,}", false),
            ("01", false), ("1.", false), (".5", false), ("+1", false), ("1e", false), ("- 1", false), ("tru", false),
            ("[1", false), ("[1}", false), ("]", false), ("", false), ("1 2", false), (#"{"a"}"#, false),
            (#"{a:1}"#, false),
            (#"{"a":1 "b":2}"#, false), (#""\x""#, false), (#""\u12g4""#, false), ("\"\u{1}\"", false), ("\"", false),
            ("\"\n\"", false), ("'a'", false), ("NaN", false), ("[1]//", false), ("\u{FEFF}1", false),
            ("\u{A0}1", false),
            (String(repeating: "[", count: 500) + String(repeating: "]", count: 500), true),
            (String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000), false),
        ]
    )
    func grammar(text: String, isJSON: Bool) {
        #expect(JSONCheck.isValue(Array(text.utf8)) == isJSON)
        #expect((JSONText(text.utf8) != nil) == isJSON)
    }

    @Test("what only a lax parser takes for JSON is refused, and never given out")
    func lax() async throws {
        let stage = try await CacheStage()
        for value in ["[1,]", #"{"a":1,}"#, "\u{FEFF}1", "[1,,2]"] {
            let set = try await stage.run("set", "c", "k", value)
            #expect(set.status == 65 && set.errors.contains("not JSON") && set.output.isEmpty, "\(set.errors)")
        }
        #expect(try await stage.run("get", "c", "k").status == 1)
        let lines = [
            "\u{FEFF}" + #"{"key":"a","value":1}"#, #"{"key":"b","value":[1,]}"#, #"{"key":"c","value":1,}"#,
            #"{"key":"d","value":1}"#,
        ]
        let warm = try await stage.run(["warm", "c", "@"], input: lines.joined(separator: "\n"))
        #expect(warm.status == 65 && warm.output == "loaded 1 of 4 lines, 3 bad\n")
        #expect(warm.errors.contains("line 1: it begins with a byte order mark"))
        #expect(warm.errors.contains("line 2: it is not JSON") && warm.errors.contains("line 3: it is not JSON"))
        // What an earlier version let in.
        let redis = try RedisCacheConnection(url: "\(stage.server.url)?timeout=20s")
        let editor = TierEditor(try TierInspector(RedisCacheTier(redis), namespace: "c"), bus: RedisCacheBus(redis))
        _ = try await editor.write([TierEditor.Draft(key: "old", value: Array("[1,]".utf8))])
        #expect(try await stage.run("get", "c", "old").status == 65)
        #expect(try await stage.run("get", "c", "old", "--format", "json").output.hasSuffix(#""value":null}"# + "\n"))
        #expect(try await stage.run("get", "c", "old", "--raw").output == "[1,]")
    }

    @Test("a value that is a little too large is a wrong line, and the others are loaded")
    func nearlyTooLarge() async throws {
        let stage = try await CacheStage()
        func line(_ key: String, _ bytes: Int) -> String {
            #"{"key":"\#(key)","value":"\#(String(repeating: "x", count: bytes - 2))","tags":["t"]}"#
        }
        // Beside the value there is what is said of it, and room for the longest name of who writes.
        let most = CacheLimits.largestValue - 64 - Envelope.longestWriter
        let lines = [#"{"key":"a","value":1}"#, line("b", most + 1), line("c", most), #"{"key":"d","value":1}"#]
        let warm = try await stage.run(["warm", "c", "@"], input: lines.joined(separator: "\n"))
        #expect(warm.status == 65 && warm.output == "loaded 3 of 4 lines, 1 bad\n", "\(warm.errors)")
        #expect(warm.errors.hasPrefix("holdfast: line 2: a value with these tags has at most \(most) bytes"))
        #expect(try await stage.run("get", "c", "c", "--raw").output.utf8.count == most)
        #expect(try await stage.run("get", "c", "d").status == 0)
        #expect(try await stage.run("get", "c", "b").status == 1)
    }

    @Test("a warm-up that the store stops has its tally all the same")
    func tally() async throws {
        let stage = try await CacheStage()
        let dead = try await stage.run(
            ["warm", "c", "@", "--format", "json", "--store", "redis://127.0.0.1:1?timeout=100ms"],
            input: #"{"key":"a","value":1}"# + "\nx\n"
        )
        #expect(dead.status == 69 && dead.output == #"{"lines":2,"loaded":0,"kept":0,"bad":1}"# + "\n")
    }

    @Test("a warm-up without the channel loads all, and says who was not told")
    func untold() async throws {
        let stage = try await CacheStage()
        let user = try stage.user(RedisCachePermissions.rules() + ["resetchannels"])
        let lines = (0..<700).map { #"{"key":"k\#($0)","value":1}"# }.joined(separator: "\n")
        let warm = try await stage.run(["warm", "c", "@", "--store-file", user], input: lines)
        #expect(warm.status == 69 && warm.output == "loaded 700 of 700 lines\n", "\(warm.output)")
        #expect(warm.errors.hasPrefix("holdfast: running services were not told of what is loaded: "))
        #expect(warm.errors.contains("&hfc:bus") && !warm.errors.contains("RedisCachePermissions"), "\(warm.errors)")
        #expect(try await stage.run("get", "c", "k699").status == 0)
        let bad = try await stage.run(["warm", "c", "@", "--store-file", user], input: "x\n" + lines)
        #expect(bad.status == 65 && bad.errors.contains("were not told"))
    }

    @Test("a time to live that nobody can keep is refused, and what is kept is said")
    func lifetimes() async throws {
        let stage = try await CacheStage()
        for life in ["31d", "30d1ms"] {
            let set = try await stage.run("set", "c", "k", "1", "--ttl", life)
            #expect(set.status == 78 && set.errors.contains("at most 30 days"), "\(set.errors)")
        }
        let none = try await stage.run("set", "c", "k", "1", "--ttl", "0")
        #expect(none.status == 78 && none.errors.contains("above zero") && !none.errors.contains("timeToLive"))
        let line = try await stage.run(["warm", "c", "@"], input: #"{"key":"k","value":1,"ttl":"31d"}"#)
        #expect(line.status == 65 && line.errors.contains("line 1: a time to live is at most 30 days"))
        #expect(try await stage.run("set", "c", "longest", "1", "--ttl", "30d").status == 0)
        #expect(try await stage.run("set", "c", "endless", "1").status == 0)
        for key in ["longest", "endless"] {
            let json = try await stage.run("get", "c", key, "--format", "json").output
            let kept = try #require(json.firstMatch(of: /"kept_left_s":([0-9.]+)/)?.output.1)
            let there = try #require(Double(try stage.server.execute("PTTL", "hfc:c:\(key)")))
            #expect(abs(try #require(Double(kept)) - there / 1000) < 60, "\(kept)")
        }
        let explanation = try await stage.run("explain", "c", "endless").output
        #expect(explanation.contains("is fresh for as long as it is kept, 29d23h more"), "\(explanation)")
    }
}

extension CacheStage {
    /// A file with the URL of a user of the server who has these permissions.
    func user(_ rules: [String], timeout: String = "20s") throws -> String {
        #expect(try self.server.execute(["ACL", "SETUSER", "someone", "reset", "on", ">secret"] + rules) == "OK")
        return try self.file(
            "\(self.server.url.replacing("://", with: "://someone:secret@"))?timeout=\(timeout)"
        )
    }
}
