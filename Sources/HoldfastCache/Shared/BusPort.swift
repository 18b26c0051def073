// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

/// A process on the bus: tells the others what changed, and its own caches what the others say.
final class BusPort: Sendable {
    /// What others say.
    enum News: Sendable {
        /// Changes in a cache of theirs.
        case changes([BusMessage.Change], namespace: String)
        /// Some news may be missing.
        case missing
    }

    /// How many events wait at most; what comes then is lost, and all memory doubted.
    private static let mostEvents = 10_000
    /// Pauses between attempts to send a message.
    private static let (shortestPause, longestPause) = (Duration.milliseconds(50), Duration.seconds(5))

    private let bus: any CacheBus
    private let clock: CacheClock
    private let origin: UInt64
    private let outbox: Mutex<BusOutbox>
    private let wake = WakeSlot()
    private let listening = Atomic<Bool>(false)
    private let hasDropped = Atomic<Bool>(false)

    init(_ bus: any CacheBus, origin: UInt64, hasSides: Bool, clock: CacheClock) {
        self.bus = bus
        self.clock = clock
        self.origin = origin
        self.outbox = Mutex(BusOutbox(origin: origin, hasSides: hasSides))
    }

    /// Whether messages of others come.
    var isListening: Bool { self.listening.load(ordering: .relaxed) }

    /// Tells the others of a change, soon.
    func tell(_ change: BusMessage.Change, in namespace: String) {
        self.outbox.withLock { $0.add(change, in: namespace) }
        self.wake.wake(.signal)
    }

    /// Sends and listens until the task is cancelled.
    ///
    /// - Parameter onNews: Told what others say, one after the other.
    /// - Throws: What the bus throws when it cannot work at all.
    func run(_ onNews: @escaping @Sendable (News) -> Void) async throws {
        let (events, input) = AsyncStream<CacheBusEvent>.makeStream(bufferingPolicy: .bufferingOldest(Self.mostEvents))
        let subscription = self.bus.subscribe { event in
            if case .interrupted = event { self.listening.store(false, ordering: .relaxed) }
            if case .dropped = input.yield(event) { self.hasDropped.store(true, ordering: .relaxed) }
        }
        defer {
            subscription.cancel()
            input.finish()
            self.listening.store(false, ordering: .relaxed)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.bus.run() }
            group.addTask { await self.send() }
            group.addTask { await self.listen(events, onNews) }
            try await group.waitForAll()
        }
    }

    /// Sends what still waits, once.
    func flush() async {
        while let message = self.outbox.withLock({ $0.next() }) {
            guard (try? await self.bus.publish(message.encoded)) != nil else { return }
        }
    }

    private func send() async {
        var generator = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            guard let message = self.outbox.withLock({ $0.next() }) else {
                _ = await self.wake.wait()
                continue
            }
            var pauses = RetrySchedule(base: Self.shortestPause, cap: Self.longestPause)
            // Who got it already ignores it.
            while !Task.isCancelled, (try? await self.bus.publish(message.encoded)) == nil {
                try? await self.clock.sleeper.sleep(for: pauses.next(using: &generator))
            }
        }
    }

    private func listen(_ events: AsyncStream<CacheBusEvent>, _ onNews: @Sendable (News) -> Void) async {
        var ledger = BusLedger()
        for await event in events {
            if self.hasDropped.exchange(false, ordering: .relaxed) { onNews(.missing) }
            switch event {
            case .listening:
                onNews(.missing)
                // From here on, what is in memory is believed.
                self.listening.store(true, ordering: .relaxed)
            case .interrupted:
                self.listening.store(false, ordering: .relaxed)
                onNews(.missing)
            case .message(let bytes):
                guard let message = BusMessage(bytes) else {
                    onNews(.missing)
                    continue
                }
                guard message.origin != self.origin else { continue }
                let verdict = ledger.take(origin: message.origin, sequence: message.sequence)
                if verdict == .repeated { continue }
                onNews(.changes(message.changes, namespace: message.namespace))
                if verdict == .gap || message.changes.contains(.unknown) { onNews(.missing) }
            }
        }
    }
}
