// SPDX-License-Identifier: Apache-2.0

/// For each model, how often it hit what the current shape's model missed, and the opposite.
struct ShapeLedger: Sendable {
    private var gains: ContiguousArray<Int>
    private var losses: ContiguousArray<Int>

    init(shapes: Int) {
        self.gains = ContiguousArray(repeating: 0, count: shapes)
        self.losses = self.gains
    }

    /// A model and the current shape's disagreed.
    mutating func count(_ number: Int, isGain: Bool) {
        if isGain { self.gains[number] += 1 } else { self.losses[number] += 1 }
    }

    /// Lets the past count half.
    mutating func halve() {
        for number in self.gains.indices {
            self.gains[number] /= 2
            self.losses[number] /= 2
        }
    }

    /// Forgets everything, as is due when another shape becomes the current one.
    mutating func clear() {
        for number in self.gains.indices {
            self.gains[number] = 0
            self.losses[number] = 0
        }
    }

    /// The model with the largest lead over the current shape's, even if that is negative.
    func best(among isAllowed: (Int) -> Bool) -> Int? {
        self.gains.indices.filter(isAllowed).max {
            self.gains[$0] - self.losses[$0] < self.gains[$1] - self.losses[$1]
        }
    }

    /// The model with the largest lead over the current shape's, if chance alone hardly makes such a lead.
    ///
    /// - Parameters:
    ///   - evidence: The square of the number of standard deviations that is asked for. Under chance alone each of the
    ///     requests on which the two disagree is a gain or a loss like the toss of a coin.
    ///   - isAllowed: Which models may be chosen.
    /// - Returns: The model's number; `nil` if no lead is large enough.
    func surelyBest(evidence: Int, among isAllowed: (Int) -> Bool) -> Int? {
        var (best, most): (Int?, Int) = (nil, 0)
        for number in self.gains.indices where isAllowed(number) {
            let lead = self.gains[number] - self.losses[number]
            let disagreements = self.gains[number] + self.losses[number]
            if lead > most, lead * lead > evidence * disagreements { (best, most) = (number, lead) }
        }
        return best
    }
}
