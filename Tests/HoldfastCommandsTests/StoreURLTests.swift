// SPDX-License-Identifier: Apache-2.0

import HoldfastCommands
import HoldfastCore
import Testing

@Suite
struct StoreURLTests {
    @Test(arguments: [
        ("memory:", StoreURL.memory), ("sqlite:", .sqlite(path: nil)), ("sqlite:./l.db", .sqlite(path: "./l.db")),
        ("sqlite:/var/l.db", .sqlite(path: "/var/l.db")), ("sqlite:///var/l.db", .sqlite(path: "/var/l.db")),
        ("SQLite:/x", .sqlite(path: "/x")), ("redis://h:6379/0", .redis(url: "redis://h:6379/0")),
        ("rediss://h", .redis(url: "rediss://h")),
        ("redis+unix:///s", .redis(url: "redis+unix:///s")), ("redis://a,b,c", .redis(url: "redis://a,b,c")),
        ("redis+sentinel://a,b/main", .redis(url: "redis+sentinel://a,b/main")),
        ("zookeeper://a,b:2182/x", .zookeeper(url: "zookeeper://a,b:2182/x")),
    ])
    func `stores are named by URL`(text: String, url: StoreURL) throws {
        #expect(try StoreURL(text) == url)
    }

    @Test(arguments: [
        "", "locks.db", "memory:x", "sqlite://host/x", "redis:h", "redis://", "redis://user:canary@",
        "redis+unix://canary@h/s", "redis://a,b?canary", "redis://:ca/canary@h:6379/0", "redis://:c@canary/word@h",
        "redis://:ca?canary@h",
        "redis://canary@a,b", "zookeeper://canary@h", "http://canary@h", "zookeeper://u:ca/canary@h",
        "zookeeper://u:canary@h?layout=canary", "zookeepers://u:canary@h", "sqlite:/a\0b", "sqlite:canary.db",
        "sqlite:~/canary.db", "canary@h:6379/0", "canary\u{1B}:x",
    ])
    func `anything else is refused with a sentence that does not repeat it`(text: String) {
        let problem = #expect(throws: StoreURL.Problem.self) { try StoreURL(text) }
        if !text.hasPrefix("canary") { #expect(problem?.description.contains("canary") == false) }
        #expect(problem?.description.contains("\u{1B}") == false)
    }

    @Test(arguments: [
        "redis://:canary@h:6379/0", "redis://canary:canary@h:6379", "redis://u:can@canary@h:6379",
        "redis://canary@h:6379",
    ])
    func `the description shows no user and no password`(text: String) throws {
        #expect(try StoreURL(text).description == "redis://h:6379")
        #expect(try StoreURL(text).text == text)
    }

    @Test
    func `Sentinels and nodes of a cluster are named together, and shown without their passwords`() throws {
        for (url, shown) in [
            ("redis+cluster://u:canary@a,b:7000", "redis+cluster://a:6379,b:7000"),
            ("rediss+cluster://:canary@a", "rediss+cluster://a:6379"),
            ("redis-sentinel://u:canary@a,b/main", "redis+sentinel://a:26379,b:26379/main"),
        ] {
            let store = try StoreURL(url)
            #expect(store.description == shown)
            #expect(store.text == url)
            #expect(try StoreFactory.make(store).capabilities.name == "redis")
        }
    }

    @Test
    func `only a store with a thread of its own lets callers run there`() throws {
        for url in ["sqlite:/x", "redis://h", "redis+cluster://a,b?timeout=2s", "redis+sentinel://a,b/m"] {
            #expect(StoreFactory.executor(of: try StoreFactory.make(StoreURL(url))) == nil)
            #expect(StoreFactory.executor(of: try StoreFactory.makeRunningCallers(StoreURL(url))) != nil)
        }
        for url in ["memory:", "redis://a,b,c", "zookeeper://h"] {
            let error = #expect(throws: CommandFailure.self) { try StoreFactory.makeRunningCallers(StoreURL(url)) }
            #expect(error?.status == ExitStatus.configuration)
        }
    }
}
