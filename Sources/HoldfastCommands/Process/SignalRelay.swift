// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Glibc
import Synchronization

/// Signals, taken by a thread of their own and handed to whoever is in charge; nobody in charge means the usual end.
package final class SignalRelay: Sendable {
    /// The one of this process.
    package static let shared = SignalRelay()

    private let handler = Mutex<(@Sendable (Int32) -> Void)?>(nil)

    private init() {}

    /// Starts the thread that takes the signals.
    ///
    /// Call once, first in main.
    package func start() {
        hf_signals_prepare()
        let context = Unmanaged.passUnretained(self).toOpaque()  // lives as long as the process
        _ = hf_signals_start(
            { number, context in
                guard let context else { return }
                Unmanaged<SignalRelay>.fromOpaque(context).takeUnretainedValue().received(number)
            },
            context
        )
    }

    /// Puts somebody in charge; `nil` restores the usual end.
    ///
    /// - Parameter handler: Called on the signal thread; must not block.
    package func handle(_ handler: (@Sendable (Int32) -> Void)?) { self.handler.withLock { $0 = handler } }

    private func received(_ number: Int32) {
        if let handler = self.handler.withLock({ $0 }) {
            handler(number)
        } else if number != SIGWINCH, number != SIGCONT {
            hf_signals_die(number)
        }
    }

    /// Whether a signal asks to end.
    package static func isTerminating(_ number: Int32) -> Bool {
        number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT
    }
}
