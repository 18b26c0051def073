// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Says which shape several parts of one memory have; one part's judge writes it, the others read.
final class ShapeBoard: Sendable {
    private let shape: Atomic<Int>

    init(_ number: Int) { self.shape = Atomic(number) }

    /// Which of the shapes.
    var number: Int { self.shape.load(ordering: .relaxed) }

    func write(_ number: Int) { self.shape.store(number, ordering: .relaxed) }
}
