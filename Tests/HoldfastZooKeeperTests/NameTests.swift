// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Testing

@testable import HoldfastZooKeeper

/// The short ways through names of locks and nodes lead where the long ones do.
@Suite("Names of nodes in ZooKeeper")
struct NameTests {
    @Test(
        "A name is escaped where it has to be, and nowhere else",
        arguments: [
            ("invoices/42", "/r/invoices/42"), ("a-b_c:D/9", "/r/a-b_c:D/9"), ("zookeepers", "/r/zookeepers"),
            ("zookeeper", "/r/%7Aookeeper"), ("a/zookeeper", "/r/a/zookeeper"), ("zookeeper/a", "/r/%7Aookeeper/a"),
            (".holdfast", "/r/%2Eholdfast"), ("a/.holdfast", "/r/a/.holdfast"), (".", "/r/%2E"),
            ("a/..", "/r/a/%2E%2E"),
            ("a.b", "/r/a.b"), ("a//b", "/r/a/%/b"), ("a/", "/r/a/%"), ("/a", "/r/%/a"), ("50%", "/r/50%25"),
            ("_c_x-lock-0000000001", "/r/_c_x-lock-000000000%31"), ("a/lock-0000000001/b", "/r/a/lock-000000000%31/b"),
            ("_c_x-lock--000000001", "/r/_c_x-lock--00000000%31"), ("lock-000000001", "/r/lock-000000001"),
            ("0000000001", "/r/0000000001"), ("é/z", "/r/é/z"), ("\u{1F512}", "/r/%F0%9F%94%92"),
            // A mark that makes one character with the slash before it.
            ("q/\u{301}b", "/r/q/\u{301}b"), ("\u{301}b", "/r/\u{301}b"), ("q/\u{301}/..", "/r/q/\u{301}/%2E%2E"),
            (".holdfast-1", "/r/%2Eholdfast-1"), (".holdfasts", "/r/.holdfasts"),
        ] as [(String, String)]
    )
    func paths(_ name: String, _ path: String) throws {
        let resource = try Resource(name)
        #expect(LockPath.path(of: resource, below: "/r") == path)
        #expect(LockPath.resource(at: path, below: "/r") == resource)
    }

    /// What a name says, for short.
    private static func reading(_ text: String) -> String {
        switch LockName.read(text, as: .curator) {
        case .contender(let name): "\(name.guid) \(name.mode) \(name.standing) \(name.sequence)"
        case .stranger: "stranger"
        case .junk: "junk"
        }
    }

    @Test(
        "Words at the end of what looks like a GUID are read",
        arguments: [
            ("01234567-0123-0123-0123-0123456789ab", "01234567-0123-0123-0123-0123456789ab", LockMode.exclusive),
            ("01234567-0123-0123-0123-0123456789AB", "01234567-0123-0123-0123-0123456789AB", .exclusive),
            // As long as a GUID, all three.
            ("01234567-0123-0123-0123-01234-shared", "01234567-0123-0123-0123-01234", .shared),
            ("01234567012301234-permit123456789012", "01234567012301234", .permit(of: 123_456_789_012)),
            ("012345670123012301230123-permit12345", "012345670123012301230123", .permit(of: 12345)),
            ("01234567012301230123-0123456789ab", "01234567012301230123-0123456789ab", .exclusive),
            ("-permit2", "", .permit(of: 2)), ("", "", .exclusive),
        ] as [(String, String, LockMode)]
    )
    func words(_ body: String, _ guid: String, _ mode: LockMode) {
        let expected = "\(guid) \(mode) \(LockName.Standing.queued) 7"
        #expect(Self.reading("_c_\(body)-lock-0000000007") == expected)
    }

    @Test(
        "No two GUIDs are the same, and each begins with its request's reference",
        arguments: [ZooKeeperConfiguration.Layout.curator, .curatorReadWrite, .kazoo]
    )
    func guids(_ layout: ZooKeeperConfiguration.Layout) throws {
        let sources = [GUIDSource(), GUIDSource()]
        let id = RequestID(high: 0x0123_4567_89AB_CDEF, low: 1)
        let guids = (0..<2000).map { sources[$0 % 2].next(layout, for: id) }
        #expect(Set(guids).count == guids.count)
        for guid in guids {
            #expect(guid.hasPrefix(id.reference))
            #expect(guid.utf8.count == (layout == .kazoo ? 32 : 36))
            let dashes = guid.utf8.enumerated().filter { $0.element == UInt8(ascii: "-") }.map(\.offset)
            #expect(dashes == (layout == .kazoo ? [] : [8, 13, 18, 23]))
        }
    }

    @Test
    func `a name with the ends of another is not taken for it`() {
        let middles = (0..<100).map { "_c_01234567-0000-\($0)-lock-0000000001" }
        let keys = Set(middles.map(NodeKey.init))
        #expect(keys.count == middles.count)
        for name in middles { #expect(keys.contains(NodeKey(name))) }
        #expect(!keys.contains(NodeKey("_c_01234567-0000-x-lock-0000000001")))
        #expect(NodeKey("") == NodeKey(""))
    }

    @Test
    func `a wish that a holder lets go is found in nodes of all kinds, and a word alone is none`() {
        let process = ProcessIdentity(instance: 7, host: "h", pid: 1, started: 0, program: "p")
        func data(label: String? = nil, revoke: Bool = false) -> [UInt8] {
            let owner = OwnerID(process: process, serial: 1, label: label)
            return NodeData(owner: owner, session: .seconds(10), revoke: revoke).bytes(OwnerCache())
        }
        #expect(NodeData.asksToLetGo(data(revoke: true)))
        #expect(NodeData.asksToLetGo(data(label: "x", revoke: true)))
        #expect(NodeData.asksToLetGo(NodeData.curatorsRevocation))
        #expect(!NodeData.asksToLetGo(data()))
        #expect(!NodeData.asksToLetGo(data(label: "\"revoke\":true")))
        #expect(!NodeData.asksToLetGo([]))
        #expect(!NodeData.asksToLetGo(Array("revok".utf8)))
        #expect(!NodeData.asksToLetGo(Array("revoke".utf8)))
    }
}
