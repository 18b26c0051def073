// SPDX-License-Identifier: Apache-2.0

import HoldfastTesting
import Testing

@Suite(.timeLimit(.minutes(5)))
struct RedisServerTests {
    @Test
    func `a server starts, answers, restarts empty on its port, and stops`() async throws {
        let server = try await RedisServer()
        let port = server.port
        #expect(try server.execute("SET", "a", "1") == "OK")
        #expect(try server.execute("GET", "a") == "1")
        try await server.restart()
        #expect(server.port == port)
        #expect(try server.execute("GET", "a") == "(nil)")
        server.kill()
        #expect(server.pid == nil)
        #expect(throws: (any Error).self) { try server.execute("PING") }
    }
}
