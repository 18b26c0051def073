// SPDX-License-Identifier: Apache-2.0

import Dispatch
import HoldfastCore

/// Calls back again and again, on a queue of its own, until it goes away.
final class Ticker: @unchecked Sendable {
    // Dispatch sources may be used from any thread; Dispatch does not say so in types.
    private let source: any DispatchSourceTimer

    /// Makes a ticker that does not run yet.
    init(every pause: Duration) {
        let queue = DispatchQueue(label: "holdfast.zookeeper.ticks", qos: .userInitiated)
        let nanoseconds = DispatchTimeInterval.nanoseconds(Int(pause.nanoseconds))
        self.source = DispatchSource.makeTimerSource(queue: queue)
        self.source.schedule(deadline: .now() + nanoseconds, repeating: nanoseconds)
    }

    deinit { self.source.cancel() }

    /// Starts; called once.
    func start(_ tick: @escaping @Sendable () -> Void) {
        self.source.setEventHandler(handler: tick)
        self.source.resume()
    }

    /// Stops for good.
    func stop() { self.source.cancel() }
}
