// SPDX-License-Identifier: Apache-2.0

#if Logging
import InMemoryLogging
import Logging
import Testing

@testable import HoldfastZooKeeper

@Suite("Lines of the ZooKeeper client for a logger", .serialized)
struct ForwardedLogTests {
    @Test("Keep their level, say where they come from, and hide what may be a credential")
    func levels() {
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in handler }
        logger.logLevel = .trace
        ZooKeeperLog.forward(to: logger, upTo: .info)
        defer { ZooKeeperLog.observe(nil) }
        for level in ["ERROR", "WARN", "INFO"] {
            ClientLog.shared.take("2026-11-23 10:00:00,000:1(0x7f):ZOO_\(level)@f@12: session 0x100abc of \(level)")
        }
        let entries = handler.entries.filter { "\($0.message)".hasPrefix("session 0x… of ") }
        #expect(entries.map(\.level) == [.error, .warning, .info])
        #expect(entries.allSatisfy { $0.metadata["component"] == "zookeeper" })
    }
}
#endif
