// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// The scripts against the reference: the same random commands to both, and the same replies.
@Suite(.timeLimit(.minutes(5)))
struct ModelTests {
    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            self.state &+= 0x9E37_79B9_7F4A_7C15
            var word = self.state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            return word ^ (word >> 31)
        }
    }

    /// What can be compared of a reply: all but tokens and times.
    private static func shape(_ reply: AcquireReply) -> String {
        switch reply {
        case .granted: "granted"
        case .waiting(let waiting): "waiting \(waiting.position) behind \(Self.shape(waiting.blockers))"
        case .busy(let blockers): "busy \(Self.shape(blockers))"
        case .finished: "finished"
        }
    }

    private static func shape(_ holders: [Holder]) -> String {
        holders.map { "\($0.reference ?? "-") \($0.name) \($0.isAccepting)" }.joined(separator: ", ")
    }

    private static func shape(_ status: ResourceStatus) -> String {
        let waiters = status.waiters.map(\.reference).joined(separator: " ")
        return "\(Self.shape(status.holders)) | \(waiters) | \(status.restingFor != nil)"
    }

    /// What a store said that it handed over.
    private final class HandedOver: Sendable {
        private let news = Mutex<[RequestID: FencingToken]>([:])
        private let subscription = Mutex<SignalSubscription?>(nil)

        init(of store: RedisLockStore) {
            let subscription = store.subscribe { [weak self] signal in
                if case .handedOver(let id, let token, since: _) = signal { self?.news.withLock { $0[id] = token } }
            }
            self.subscription.withLock { $0 = subscription }
        }

        deinit { self.subscription.withLock { $0?.cancel() } }

        func take() -> [RequestID: FencingToken] {
            self.news.withLock { news in
                defer { news = [:] }
                return news
            }
        }
    }

    private final class Run {
        var table = LockTable()
        var signals: [StoreSignal] = []
        var clock: Int64 = 1_000_000_000
        let store: RedisLockStore
        let resource: Resource
        let handed: HandedOver
        var requests: [LockRequest] = []
        var tokens: [FencingToken] = []

        init(_ store: RedisLockStore, _ resource: Resource) {
            self.store = store
            self.resource = resource
            self.handed = HandedOver(of: store)
        }

        /// Whoever was handed the lock unasked has accepted it.
        func accept(at now: Timestamp) throws {
            let news = self.handed.take()
            for request in self.requests {
                guard let token = news[request.id] else { continue }
                _ = try self.table.acquire(request, at: now, signals: &self.signals)
                self.tokens.append(token)
            }
        }

        func step(_ generator: inout SplitMix) async throws -> (command: String, expected: String, actual: String) {
            // Commands are a millisecond apart in the model, so that arrivals differ there as they do in Redis.
            self.clock += 1_000_000
            let now = Timestamp(nanoseconds: self.clock)
            let isNew = self.requests.isEmpty || Int.random(in: 0..<3, using: &generator) == 0
            if isNew {
                self.requests.append(
                    Make.request(
                        self.resource,
                        lease: .seconds(60),
                        contention: Int.random(in: 0..<3, using: &generator) == 0 ? .fail : .queue,
                        acceptance: .seconds(30),
                        waitLimit: Bool.random(using: &generator)
                            ? .seconds(Int.random(in: 50...60, using: &generator)) : nil,
                        lockDelay: Int.random(in: 0..<8, using: &generator) == 0 ? .seconds(20) : .zero,
                        priority: max(0, Int.random(in: -3...1, using: &generator))
                            * (Bool.random(using: &generator) ? 50 : -50)
                    )
                )
                self.requests[self.requests.count - 1].acceptsUnasked = Bool.random(using: &generator)
            }
            let request =
                isNew ? self.requests[self.requests.count - 1] : self.requests.randomElement(using: &generator)
            guard let request else { return ("nothing", "", "") }
            switch isNew ? 0 : Int.random(in: 0..<12, using: &generator) {
            case 0...3:
                let expected = try self.table.acquire(request, at: now, signals: &self.signals)
                let actual = try await self.store.acquire(request)
                if case .granted(let token) = actual, self.tokens.last != token { self.tokens.append(token) }
                return ("acquire \(request.id)", ModelTests.shape(expected), ModelTests.shape(actual))
            case 4...6:
                let expected = self.table.release(request.key, at: now, signals: &self.signals)
                let actual = try await self.store.release(request.key)
                try self.accept(at: now)
                return ("release \(request.id)", "\(expected)", "\(actual)")
            case 7, 8:
                let expected = self.table.withdraw(request.key, at: now, signals: &self.signals)
                return ("withdraw \(request.id)", "\(expected)", "\(try await self.store.withdraw(request.key))")
            case 9:
                let renewal = Renewal(key: request.key, lease: .seconds(60))
                let expected = self.table.renew(renewal, at: now, signals: &self.signals)
                return ("renew \(request.id)", "\([expected])", "\(try await self.store.renew([renewal]))")
            case 10 where Int.random(in: 0..<3, using: &generator) == 0:
                let expected = self.table.forceRelease(self.resource, at: now, signals: &self.signals)
                let actual = try await self.store.forceRelease(self.resource)
                return ("force", ModelTests.shape(expected), ModelTests.shape(actual))
            case 11 where Int.random(in: 0..<2, using: &generator) == 0:
                let expected = self.table.revoke(self.resource, at: now, signals: &self.signals)
                let actual = try await self.store.revoke(self.resource).asked
                return ("revoke", ModelTests.shape(expected), ModelTests.shape(actual))
            default:
                let expected = self.table.status(of: self.resource, at: now)
                let actual = try await self.store.status(of: self.resource)
                return ("status", ModelTests.shape(expected), ModelTests.shape(actual))
            }
        }
    }

    @Test
    func `two hundred random sequences get the replies of the lock table, and tokens only grow`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        // Somebody must wait once, so that the store listens: only then are waiters reached.
        let holder = Make.request("warm")
        _ = try await store.acquire(holder)
        _ = try await store.acquire(Make.request("warm"))
        let base = UInt64.random(in: 0..<1_000_000)
        await withTaskGroup(of: Void.self) { group in
            for lane in 0..<8 as Range<UInt64> {
                group.addTask {
                    for number in 0..<25 as Range<UInt64> {
                        let seed = base + lane * 25 + number
                        do {
                            if let problem = try await Self.run(seed, store) {
                                Issue.record("seed \(seed): \(problem)")
                            }
                        } catch {
                            Issue.record("seed \(seed): \(error)")
                        }
                    }
                }
            }
        }
    }

    private static func run(_ seed: UInt64, _ store: RedisLockStore) async throws -> String? {
        var generator = SplitMix(state: seed)
        let run = Run(store, try Resource("model/\(seed)"))
        var history: [String] = []
        for _ in 0..<25 {
            let (command, expected, actual) = try await run.step(&generator)
            history.append("\(command): \(expected)")
            guard expected == actual else {
                return "\(history.joined(separator: "\n"))\nbut Redis said \(actual)"
            }
        }
        return zip(run.tokens, run.tokens.dropFirst()).allSatisfy { $0 < $1 } ? nil : "tokens went back: \(run.tokens)"
    }
}
