// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore

extension TierContract {
    /// Messages.
    static let messages: [BusCase] = [
        BusCase("A message reaches all subscribers, its sender among them, as it was sent") { bench in
            let logs = [bench.a, bench.a, bench.b].map { BusLog($0) }
            for log in logs { try await log.wait("for messages") { $0.contains(.listening) } }
            let sent: [[UInt8]] = [
                [], [0], Array(0...255), Array("\r\n+OK\r\n".utf8),
                Array(repeating: 1, count: CacheLimits.maximumMessage),
            ]
            for message in sent { try await bench.a.publish(message) }
            for log in logs { try await log.wait("all") { BusLog.messages($0) == sent } }
        },
        BusCase("Messages of one sender come in order") { bench in
            let logs = [BusLog(bench.a), BusLog(bench.b)]
            for log in logs { try await log.wait("for messages") { $0.contains(.listening) } }
            let sent = (0..<200).map { Array("\($0)".utf8) }
            for message in sent { try await bench.b.publish(message) }
            for log in logs { try await log.wait("all in order") { BusLog.messages($0) == sent } }
        },
        BusCase("Who comes later is told that messages come, and gets none from before") { bench in
            let first = BusLog(bench.a)
            try await first.wait("for messages") { $0.contains(.listening) }
            try await bench.b.publish([1])
            try await first.wait("the first") { BusLog.messages($0) == [[1]] }
            let second = BusLog(bench.a)
            try await second.wait("for messages") { $0.contains(.listening) }
            try await bench.b.publish([2])
            try await second.wait("the second") { BusLog.messages($0) == [[2]] }
        },
        BusCase("Who cancels hears nothing more") { bench in
            let (gone, other) = (BusLog(bench.b), BusLog(bench.b))
            for log in [gone, other] { try await log.wait("for messages") { $0.contains(.listening) } }
            gone.cancel()
            let count = gone.events.count
            try await bench.a.publish([1])
            try await other.wait("the message") { BusLog.messages($0) == [[1]] }
            guard gone.events.count == count else { throw Violation(description: "it heard \(gone.events)") }
        },
        BusCase("A message that is too long is refused, with the limit named") { bench in
            do {
                try await bench.a.publish(Array(repeating: 1, count: CacheLimits.maximumMessage + 1))
            } catch let error as CacheError where error.code == .invalidArgument {
                guard error.message.contains("\(CacheLimits.maximumMessage)") else {
                    throw Violation(description: "\(error) names no limit")
                }
                return
            }
            throw Violation(description: "it was sent")
        },
    ]
}

/// Two clients of one bus.
struct BusBench: Sendable {
    let a: any CacheBus
    let b: any CacheBus
}
