// SPDX-License-Identifier: Apache-2.0

package import Holdfast
import HoldfastCore

/// Says on stderr when requests wait for each other, for those who only want to know.
package struct DeadlockNotes: LockObserver {
    /// Makes an observer.
    package init() {}

    /// Writes a note for a deadlock.
    package func observe(_ event: LockEvent) {
        if case .deadlock(let deadlock) = event {
            Output.note("deadlock, waiting on: \(TerminalText.escaped(deadlock.description)) (see `holdfast graph`)")
        }
    }
}
