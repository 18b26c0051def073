// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Numbers that no server of ours would say: a key that another program wrote, a proxy, a clock that is broken.
@Suite("Damaged numbers", .timeLimit(.minutes(5)))
struct DamagedNumberTests {
    @Test(arguments: [Int64.max, 9_007_199_254_740_993])
    func `a token that no clock gives is an error that says so`(number: Int64) {
        let granted = #expect(throws: LockError.self) {
            try ScriptReplies.acquire(.integer(number), resource: "x")
        }
        #expect(granted?.code == .storeCorrupted && granted?.message.contains("token") == true)
        let converted = #expect(throws: LockError.self) { try ScriptReplies.convert(.integer(number)) }
        #expect(converted?.code == .storeCorrupted && converted?.message.contains("token") == true)
    }

    @Test
    func `a token that no clock gives does not raise those to come, and does not trap`() {
        var seen = SeenTokens()
        seen.saw(FencingToken(rawValue: 7))
        for number: UInt64 in [.max, .max / 2, 9_007_199_254_740_993] { seen.saw(FencingToken(rawValue: number)) }
        #expect(seen.floor == 8)
        let id = Make.request("x").id
        let holder = Holder(
            reference: "12345678",
            owner: nil,
            mode: .exclusive,
            fencingToken: FencingToken(rawValue: UInt64(Int64.max)),
            heldFor: nil,
            remaining: nil
        )
        let place = AcquireReply.Waiting(position: 0, checkAfter: .zero, blockers: [holder])
        seen.saw(.waiting(place), to: id, seen.floor(of: id))
        let floor = seen.floor(of: id)
        #expect(floor.new == 8 && floor.accepted == 8)
    }

    @Test(arguments: ["-9223372036854775808", "9223372036854775807", "x"])
    func `an uptime that is none makes no server older than it can be`(uptime: String) {
        let report = ServerRun.Report(info: "run_id:x\r\nuptime_in_seconds:\(uptime)\r\n")
        #expect(report.uptime >= .zero && report.uptime <= .seconds(Int64(Int32.max)))
    }

    @Test
    func `a number of a change of mode that another program wrote is an error, and does not trap`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let request = Make.request("x", mode: .update)
        #expect(try await store.acquire(request).token != nil)
        let id = try server.execute("HKEYS", "hf:{x}:s")
        try server.execute("SET", "hf:{x}:t:\(id):c", "9223372036854775807")
        let error = await #expect(throws: LockError.self) {
            try await store.convert(Conversion(request.key, to: .exclusive))
        }
        #expect(error?.code == .storeUnavailable)
        try server.execute("DEL", "hf:{x}:t:\(id):c")
        guard case .converted = try await store.convert(Conversion(request.key, to: .exclusive)) else {
            Issue.record("the mode changes no more")
            return
        }
    }
}
