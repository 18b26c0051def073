// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import Testing

/// What a cluster's nodes say, and what we make of it.
@Suite("Cluster parts")
struct ClusterPartsTests {
    private static let asked = RedisAddress(host: "asked", port: 1)

    private static func node(_ host: String, _ port: Int64) -> RedisReply {
        .array([.string(Array(host.utf8)), .integer(port), .string(Array("id".utf8))])
    }

    private static func range(_ first: Int64, _ last: Int64, _ nodes: RedisReply...) -> RedisReply {
        .array([.integer(first), .integer(last)] + nodes)
    }

    @Test(arguments: [
        ("x", 16_287), ("a", 15_495), ("b", 3300), ("c", 7365), ("{0}.x", 13_907), ("y{1}", 9842), ("{2}{x}", 5649),
        ("hf:{x}:q", 16_287), ("123456789", 0x31C3), ("", 0),
        // An empty pair of braces, or half of one, means the whole key; a tag may begin with a brace.
        ("{}x", 10_595), ("foo{{bar}}zap", 4015), ("{x", 11_068),
    ])
    func `keys are in the slots that the servers say`(key: String, slot: Int) {
        #expect(Int(RedisSlot(of: key).number) == slot)
    }

    @Test
    func `a map is read, with replicas, and masters that are not named`() throws {
        let map = try SlotMap(
            .array([
                Self.range(0, 5460, Self.node("a", 7000), Self.node("a", 7003)),
                Self.range(5461, 10_922, Self.node("", 7001)),
                Self.range(10_923, 10_923, Self.node("?", 7002)),
            ]),
            from: Self.asked
        )
        #expect(map.masters == [RedisAddress(host: "a", port: 7000), RedisAddress(host: "asked", port: 7001)])
        #expect(map.replicas == [RedisAddress(host: "a", port: 7003)])
        #expect(map.owner(of: try #require(RedisSlot(5460)))?.port == 7000)
        #expect(map.owner(of: try #require(RedisSlot(5461)))?.port == 7001)
        #expect(map.owner(of: try #require(RedisSlot(10_923))) == nil)
        #expect(map.covered == 10_923)
        for master in map.masters {
            let tag = try #require(map.tag(on: master))
            #expect(map.owner(of: RedisSlot(of: "hf:c:1~{\(tag)}")) == master)
        }
        #expect(map.tag(on: Self.asked) == nil)
    }

    @Test
    func `one slot moves, and a master without slots has no channel`() throws {
        var map = try SlotMap(.array([Self.range(7, 7, Self.node("a", 1))]), from: Self.asked)
        let slot = try #require(RedisSlot(7))
        let other = RedisAddress(host: "b", port: 2)
        map.move(slot, to: other)
        #expect(map.owner(of: slot) == other && map.covered == 1)
        #expect(map.tag(on: RedisAddress(host: "a", port: 1)) == nil)
        #expect(map.tag(on: other) != nil)
    }

    @Test(arguments: [
        RedisReply.null, .integer(1), .string([]), .array([.null]), .array([.array([])]),
        .array([range(0, 16_384, node("a", 1))]), .array([range(-1, 3, node("a", 1))]),
        .array([range(5, 3, node("a", 1))]),
        .array([range(0, 3, .null)]), .array([range(0, 3, node("a", 0))]), .array([range(0, 3, node("a", 65_536))]),
        .array([range(0, 3, .array([.string([])]))]), .array([range(0, 3, node("a", 1), .integer(1))]),
        .array([.array([.integer(.min), .integer(.max), node("a", 1)])]),
    ])
    func `what is no map is a clear error`(reply: RedisReply) {
        let error = #expect(throws: LockError.self) { try SlotMap(reply, from: Self.asked) }
        #expect(error?.code == .storeCorrupted)
    }

    @Test
    func `an empty map has no masters`() throws {
        #expect(try SlotMap(.array([]), from: Self.asked).masters.isEmpty)
    }

    @Test
    func `redirections are read`() throws {
        let moved = try #require(ClusterRedirect("MOVED 3999 127.0.0.1:6381", from: Self.asked))
        #expect(moved.slot == RedisSlot(3999) && !moved.isOnce)
        #expect(moved.address == RedisAddress(host: "127.0.0.1", port: 6381))
        let ask = try #require(ClusterRedirect("ASK 1 ::1:70", from: Self.asked))
        #expect(ask.isOnce && ask.address == RedisAddress(host: "::1", port: 70))
        #expect(ClusterRedirect("MOVED 1 :70", from: Self.asked)?.address == RedisAddress(host: "asked", port: 70))
    }

    @Test(arguments: [
        "", "MOVED", "MOVED 1", "MOVED x a:1", "MOVED 16384 a:1", "MOVED -1 a:1", "MOVED 1 a", "MOVED 1 a:",
        "MOVED 1 a:x",
        "MOVED 1 a:65536", "MOVED 1 ?:1", "ERR MOVED 1 a:1", "MOVED 99999999999999999999 a:1",
    ])
    func `what is no redirection leads nowhere`(line: String) {
        #expect(ClusterRedirect(line, from: Self.asked) == nil)
    }

    @Test
    func `a URL names nodes of a cluster`() throws {
        let configuration = try RedisConfiguration(url: "redis+cluster://u:p@a,b:7000,[::1]?prefix=lk:")
        #expect(configuration.cluster?.map(\.description) == ["a:6379", "b:7000", "[::1]:6379"])
        #expect(configuration.description == "redis+cluster://a:6379,b:7000,[::1]:6379")
        #expect(try RedisConfiguration(url: "rediss+cluster://a").tls != nil)
        #expect(try RedisConfiguration(url: "redis-cluster://a/0").cluster?.count == 1)
    }

    @Test(arguments: [
        "redis+cluster://a/2", "redis+cluster://a:0", "redis+cluster://a,b:x", "redis+cluster://a?db=1",
        "redis+cluster://a?prefix={b}", "redis+cluster://a?sentinel-user=canary",
    ])
    func `what makes no sense on a cluster is refused`(url: String) {
        let error = #expect(throws: LockError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("canary") == false)
    }

    @Test
    func `of a lock that is on its way a record alone or a key alone is carried, if there is no more of it`() {
        let keys = LockCommands(prefix: "p:", isCluster: true).keys(of: "x")
        let gone = RedisReply.error("ASK 7 127.0.0.1:7000")
        let free = Array("F0000000000000017--------------------------------.|".utf8)
        let record = LeftBehind([gone, gone, .string(free)], of: keys)
        #expect(record?.key == "hf:{p:x}:h" && record?.isRecord == true && record?.value == free)
        let key = LeftBehind([.string([1]), .integer(500), gone], of: keys)
        #expect(key?.key == "p:x" && key?.life == 500 && key?.isRecord == false)
        #expect(LeftBehind([.string([1]), .integer(-1), gone], of: keys)?.life == .some(nil))
        #expect(LeftBehind([gone, gone, gone], of: keys) == nil)
        #expect(LeftBehind([.string([1]), .integer(500), .string(free)], of: keys) == nil)
        #expect(LeftBehind([gone, gone], of: keys) == nil)
        func isWhole(queue: Int, kind: String) -> Bool {
            LeftBehind.isWhole(Array("G17||1|2|3|4|1|0|0|0|0|\(queue)|0|\(kind)||0||||owner|more".utf8))
        }
        #expect(isWhole(queue: 0, kind: "") && !isWhole(queue: 1, kind: "") && !isWhole(queue: 0, kind: "s"))
        #expect(!LeftBehind.isWhole([]) && !LeftBehind.isWhole(Array("G1|2".utf8)))
    }
}
