// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCache
import HoldfastCommands
import HoldfastTesting
import Testing

@Suite("Many entries of a cache on the command line", .timeLimit(.minutes(5)))
struct CacheBulkCommandTests {
    @Test("a cache is warmed, and its services hear of it")
    func warm() async throws {
        let stage = try await CacheStage()
        try await stage.withCache("greetings") { cache in
            try await cache.set("old", for: "k7")
            let lines = (0..<1500).map { #"{"key":"k\#($0)","value":"v\#($0)","ttl":"1h","tags":["t\#($0 % 2)"]}"# }
            let result = try await stage.run(["warm", "greetings", "@"], input: lines.joined(separator: "\n"))
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.output == "loaded 1500 of 1500 lines\n")
            try await eventually { cache.cached("k7") == nil }
            #expect(try await cache.get("k7") == "v7")
            #expect(try await cache.get("k1499") == "v1499")
            try await cache.invalidate(tag: "t1")
            #expect(try await stage.run("get", "greetings", "k7").status == 1)
            #expect(try await stage.run("get", "greetings", "k8").output == "\"v8\"\n")
        }
    }

    @Test("values are written as they are, and only where nothing usable is when that is asked for")
    func ifAbsent() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "products", "there", "0").status == 0)
        #expect(try await stage.run("set", "products", "invalid", "0", "--tag", "gone").status == 0)
        #expect(try await stage.run("invalidate", "products", "--tag", "gone").status == 0)
        #expect(try await stage.run("rm", "products", "removed").status == 0)
        let lines = [
            #"{"key":"there","value":1}"#, #"{"key":"invalid","value":1}"#, #"{"key":"removed","value":1}"#,
            #" {"tags" : [] , "value" : {"a" : [1.10, "},\"{"], "b" : null} , "key" : "n\u00e9w" , "ttl" : null} "#,
        ]
        let result = try await stage.run(
            ["warm", "products", "@", "--if-absent", "--format", "json"],
            input: lines.joined(separator: "\n") + "\n\n"
        )
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output == #"{"lines":4,"loaded":3,"kept":1,"bad":0}"# + "\n")
        for (key, value) in [("there", "0"), ("invalid", "1"), ("removed", "1")] {
            #expect(try await stage.run("get", "products", key).output == value + "\n")
        }
        let new = try await stage.run("get", "products", "n\u{E9}w").output
        #expect(new == #"{"a" : [1.10, "},\"{"], "b" : null}"# + "\n")
        let again = try await stage.run(
            ["warm", "products", "@"],
            input: #"{"key":"a","value":1}"# + "\n" + #"{"key":"a","value":2}"#
        )
        #expect(again.output == "loaded 2 of 2 lines\n")
        #expect(try await stage.run("get", "products", "a").output == "2\n")
    }

    @Test("wrong lines are named, and the others loaded")
    func badLines() async throws {
        let stage = try await CacheStage()
        let bad = [
            #"{"key":"a","#, #"[1]"#, #"{"value":1}"#, #"{"key":"a"}"#, #"{"key":1,"value":1}"#,
            #"{"key":"a","value":1,"ttl":5}"#, #"{"key":"a","value":1,"ttl":"5"}"#, #"{"key":"a","value":1,"ttl":"0"}"#,
            #"{"key":"a","value":1,"tags":"t"}"#, #"{"key":"a","value":1,"tags":[""]}"#,
            #"{"key":"a","value":1,"tll":"5m"}"#, #"{"key":"a","value":1,"key":"b"}"#,
            #"{"key":"\#(String(repeating: "k", count: 1025))","value":1}"#, "\u{1B}[2J", "{} {}",
        ]
        let lines = bad + [#"{"key":"good","value":1}"#] + Array(repeating: "canary", count: 30)
        let result = try await stage.run(["warm", "products", "@"], input: lines.joined(separator: "\n"))
        #expect(result.status == 65)
        #expect(result.output == "loaded 1 of 46 lines, 45 bad\n")
        let notes = result.errors.split(separator: "\n")
        #expect(notes.count == 21 && notes.last == "holdfast: and 25 more lines are wrong")
        for (index, note) in notes.prefix(15).enumerated() {
            #expect(note.hasPrefix("holdfast: line \(index + 1): "), "\(note)")
        }
        #expect(notes.dropFirst(15).first == "holdfast: line 17: it is not JSON")
        #expect(!result.errors.contains("canary") && !result.errors.contains("\u{1B}"))
        #expect(try await stage.run("get", "products", "good").status == 0)
        #expect(try await stage.run("get", "products", "a").status == 1)

        let missing = try await stage.run("warm", "products", "\(stage.directory.path)/none")
        #expect(missing.status == 78 && missing.errors.contains("cannot read"))
        let dead = try await stage.run(
            ["warm", "products", "@", "--store", "redis://127.0.0.1:1?timeout=100ms"],
            input: #"{"key":"a","value":1}"#
        )
        #expect(dead.status == 69 && dead.errors.hasPrefix("holdfast: stopped after line 0; 0 values are loaded: "))
        #expect(dead.errors.split(separator: "\n").count == 1)
    }

    @Test("an interrupted warm-up says how far it got")
    func interrupted() async throws {
        let stage = try await CacheStage()
        let pipe = stage.directory.fresh("pipe")
        try #require(mkfifo(pipe, 0o600) == 0)
        let warm = try HoldfastProcess(
            ["cache", "warm", "products", pipe],
            in: stage.directory,
            variables: ["HOLDFAST_STORE": stage.server.url]
        )
        // Opened for both, so that nobody waits for the other.
        let descriptor = open(pipe, O_RDWR | O_CLOEXEC)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        let lines = (0..<700).map { #"{"key":"k\#($0)","value":\#($0)}"# + "\n" }.joined()
        try Output.write(lines, to: descriptor)
        for _ in 0..<200 { if try await stage.run("get", "products", "k511").status == 0 { break } }
        try await warm.signal(SIGINT)
        let end = await warm.end()
        #expect(end.status == 130)
        #expect(end.errors.contains("stopped after line 512; 512 values are loaded"), "\(end.errors)")
        #expect(end.output.hasPrefix("loaded 512 of "))
        #expect(try await stage.run("get", "products", "k512").status == 1)
    }

    @Test("entries, tombstones and marks of each cache are counted, and what servers say")
    func stats() async throws {
        let stage = try await CacheStage()
        let lines = (0..<2500).map { #"{"key":"k\#($0)","value":"0123456789"}"# }
        _ = try await stage.run(["warm", "products", "@"], input: lines.joined(separator: "\n"))
        #expect(try await stage.run("set", "pro%ducts", "a", "1").status == 0)
        #expect(try await stage.run("rm", "products", "k1", "k2", "none").status == 0)
        for scope in [["--tag", "a"], ["--tag", "b"], ["--prefix", "x/"], ["--prefix", "y/"]] {
            #expect(try await stage.run(["invalidate", "products"] + scope).status == 0)
        }
        for key in ["hfc:products:f", "hfc:other", "other:products:x", "hfc:{products}:n"] {
            _ = try stage.server.execute("SET", key, "x")
        }
        _ = try stage.server.execute("LPUSH", "hfc:products:list", "x")
        let json = try await stage.run("stats", "--format", "json")
        #expect(json.status == 0, "\(json.errors)")
        let counts = #""entries":2498,"bytes":\d{6},"tombstones":3,"marks":4,"foreign":2"#
        #expect(try json.output.contains(Regex(#"\{"name":"products",\#(counts)\}"#)), "\(json.output)")
        #expect(json.output.contains(#"{"name":"pro%ducts","entries":1,"#))
        #expect(json.output.contains(#""servers":[{"address":"127.0.0.1:"#))
        #expect(json.output.contains(#""maxmemory":0,"keyspace_hits":"#))
        let one = try await stage.run("stats", "pro%ducts")
        let rows = one.output.split(separator: "\n")
        #expect(rows.count == 4 && rows[1].hasPrefix("pro%ducts        1 "), "\(one.output)")
        #expect(rows.last?.contains("none") == true)
        #expect(try await stage.run("stats", "nothing").output.contains("nothing        0      0"))
        #expect(try await stage.run("stats", "--store", "redis://127.0.0.1:1?timeout=100ms").status == 69)
        #expect(try await stage.run("stats", "--store", "memory:").status == 78)
    }
}
