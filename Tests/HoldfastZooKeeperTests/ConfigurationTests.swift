// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Testing

@testable import HoldfastZooKeeper

@Suite("ZooKeeper URLs")
struct ConfigurationTests {
    @Test("Say servers, path, user and settings")
    func whole() throws {
        let url = "zookeeper://anna:p%40ss%2Fw@h1:2182,h2,[::1]:2183/locks/a?session=6s&timeout=500ms&layout=kazoo"
        let configuration = try ZooKeeperConfiguration(url: url)
        #expect(configuration.servers == ["h1:2182", "h2:2181", "[::1]:2183"])
        #expect(configuration.root == "/locks/a")
        #expect(configuration.user == "anna")
        #expect(configuration.password == "p@ss/w")
        #expect(configuration.access == .creator)
        #expect(configuration.sessionTimeout == .seconds(6))
        #expect(configuration.timeout == .milliseconds(500))
        #expect(configuration.layout == .kazoo)
        #expect("\(configuration)" == "zookeeper://h1:2182,h2:2181,[::1]:2183/locks/a")
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(!dumped.contains("p@ss"))
    }

    @Test("Have sensible defaults", arguments: ["zookeeper://h", "zk://h/", "ZooKeeper://h:2181"])
    func defaults(_ url: String) throws {
        let configuration = try ZooKeeperConfiguration(url: url)
        #expect(configuration == ZooKeeperConfiguration(servers: ["h:2181"]))
    }

    @Test(
        "That cannot be read are refused, and not quoted",
        arguments: [
            "", "h", "redis://h", "zookeeper://", "zookeeper://,h", "zookeeper://h,", "zookeeper://h:x",
            "zookeeper://h:0",
            "zookeeper://h:70000", "zookeeper://secret@h", "zookeeper://h/secret@x",
            "zookeeper://h//a", "zookeeper://h/a/../b", "zookeeper://h/zookeeper", "zookeeper://h?session=1ms",
            "zookeeper://h?session=secret", "zookeeper://h?layout=secret", "zookeeper://h?secret=1",
            "zookeeper://h#secret",
            "zookeeper://h?access=creator", "zookeeper://a:%zz@h", "zookeeper://[::1", "zookeeper://::1",
            "zookeeper://h h",
        ]
    )
    func bad(_ url: String) {
        let error = #expect(throws: LockError.self) { _ = try ZooKeeperLockStore(url: url) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("secret") == false)
    }

    @Test("For TLS say what to do instead", arguments: ["zookeepers://h", "zks://h"])
    func tls(_ url: String) {
        let error = #expect(throws: LockError.self) { _ = try ZooKeeperLockStore(url: url) }
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("stunnel") == true)
    }

    @Test(
        "A holder believes for the session less half a tick and 15 %, and less two ticks and 5 %",
        arguments: [
            ("", 5500), ("?session=20s", 11_000), ("?session=60s", 33_000), ("?session=20s&tick=2s", 15_000),
            ("?tick=2s", 5500), ("?session=4s&tick=200ms", 3300),
        ]
    )
    func belief(_ settings: String, _ milliseconds: Int) throws {
        let store = try ZooKeeperLockStore(url: "zookeeper://h\(settings)")
        #expect(store.capabilities.sessionLease == .milliseconds(milliseconds))
    }

    @Test(
        "Sessions that leave nothing to believe in are refused, with one that works",
        arguments: [("session=5s&tick=2s", "session=6s"), ("session=4s", "session=6s"), ("tick=4s", "session=12s")]
    )
    func shortSessions(_ settings: String, _ advice: String) throws {
        let error = #expect(throws: LockError.self) { _ = try ZooKeeperLockStore(url: "zookeeper://h?\(settings)") }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains(advice) == true)
        _ = try ZooKeeperLockStore(url: "zookeeper://h?\(settings)&\(advice)")
    }

    @Test("Addresses of IPv6 are in brackets for people, and not for the library")
    func addresses() throws {
        let configuration = try ZooKeeperConfiguration(url: "zookeeper://[::1],[2001:db8::7]:2182,h:3")
        #expect(configuration.servers == ["[::1]:2181", "[2001:db8::7]:2182", "h:3"])
        #expect(configuration.sessionSettings.addresses == "::1:2181,2001:db8::7:2182,h:3")
    }

    @Test("Ticks that are none are refused", arguments: ["session=3s&tick=2s", "tick=0s", "tick=x"])
    func ticks(_ settings: String) {
        let error = #expect(throws: LockError.self) { _ = try ZooKeeperLockStore(url: "zookeeper://h?\(settings)") }
        #expect(error?.code == .invalidArgument)
    }

    @Test("The layouts of others have only their modes")
    func modes() throws {
        let own = try ZooKeeperLockStore(url: "zookeeper://h")
        #expect(own.capabilities.modes == Set(LockMode.Kind.allCases))
        let plain = try ZooKeeperLockStore(url: "zookeeper://h?layout=curator-rw")
        #expect(plain.capabilities.modes == [.exclusive, .shared])
    }
}
