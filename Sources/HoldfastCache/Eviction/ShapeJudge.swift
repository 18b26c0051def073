// SPDX-License-Identifier: Apache-2.0

/// Chooses the shape of the default policy by evidence: a small model of each shape sees a sample of the keys, and the shape
/// whose model hits more than the current one's takes over.
///
/// Caffeine's hill climber changes the window a little and looks whether the hit ratio rose; the traffic changes too, so it
/// takes a drift for an effect, and cannot cross a valley (from a loop to pure recency, say). Models that see the same
/// requests differ by nothing but their shape. The comparison is McNemar's test: only requests on which two models disagree
/// count, and a lead has to be larger than chance makes it.
struct ShapeJudge: Sendable {
    /// From pure frequency to nearly pure recency, each window about three times the one before.
    ///
    /// The first does not readmit: nothing else resists a loop that is up to 2.5 times as long as the cache.
    static let shapes: [TinyLFUCore.Shape] = [
        .init(window: 0.01, readmits: false),
        .init(window: 0.01, readmits: true),
        .init(window: 0.05, readmits: true),
        .init(window: 0.15, readmits: true),
        .init(window: 0.4, readmits: true),
        .init(window: 0.95, readmits: true),
    ]
    /// The shape to begin with: it is never far from the best for long.
    static let first = 2

    /// The number of entries that a model has at least, if the cache has as many.
    private static let leastEntries = 128
    /// And at most.
    private static let mostEntries = 1024
    /// In between, the part of the cache's entries that a model has.
    private static let divisor = 16
    /// After so many rounds the past counts half; a round is as many sampled requests as a model has entries.
    private static let memory = 10
    /// How many times as long the longer memory is.
    private static let longMemory = 3
    /// The square of the number of standard deviations that a lead must have: four, since five models are compared at each
    /// request, and a change that was not needed costs more than one that comes a little later.
    private static let evidence = 16
    /// A shape stays for so many rounds at least: in a loop hits come in long runs, which are no independent evidence.
    private static let pause = 4
    /// After so many rounds a new shape has to keep what its model promises.
    private static let patience = 20
    /// For so many rounds that is watched, before it is judged.
    private static let trial = 8
    /// A shape that did not is not tried again for so many, and twice as many each time.
    private static let distrustTime = 50

    private let capacity: Int
    /// Which of the shapes there are models of.
    private let numbers: [Int]
    private var models: ContiguousArray<ShadowCache>
    /// The evidence of late, which sees a change of the traffic, and that of a longer time, which sees a small difference.
    private var recent: ShapeLedger
    private var lasting: ShapeLedger
    /// A bit for each model.
    private let all: UInt8
    /// The current shape.
    private var current: Int
    /// One in 2^shift hashes is in the sample.
    private var shift = 0
    private var requests = 0
    /// How often the past was halved.
    private var periods = 0
    /// The requests in the sample.
    private var total = 0
    /// From which of them on the current shape is compared with its model.
    private var trialBegin = 0
    /// What the current shape's model hit since then, and what the cache did.
    private var promised = 0
    private var kept = 0
    /// For each shape the request until which it is not trusted.
    private var distrust: ContiguousArray<Int>
    /// How often it was not.
    private var failures: ContiguousArray<Int>
    /// As many requests as a model has entries.
    private var round = 0
    /// From which request on another shape may be chosen.
    private var nextChoice = 0

    init(capacity: Int, seed: UInt64) {
        self.capacity = capacity
        // Of shapes that come to the same in a tiny cache one is enough.
        var numbers: [Int] = []
        var current = 0
        for (number, shape) in Self.shapes.enumerated() {
            let isSame = numbers.last.map { Self.shapes[$0] }.map {
                $0.readmits == shape.readmits
                    && TinyLFUCore.windowCapacity(capacity, $0) == TinyLFUCore.windowCapacity(capacity, shape)
            }
            if isSame != true { numbers.append(number) }
            if number == Self.first { current = numbers.count - 1 }
        }
        self.numbers = numbers
        self.current = current
        self.models = []
        for number in numbers {
            self.models.append(ShadowCache(capacity: capacity, shape: Self.shapes[number], seed: seed))
        }
        self.recent = ShapeLedger(shapes: numbers.count)
        self.lasting = self.recent
        self.distrust = ContiguousArray(repeating: 0, count: numbers.count)
        self.failures = self.distrust
        self.all = UInt8(truncatingIfNeeded: 1 << numbers.count - 1)
        self.setRound(entries: 0)
        self.trialBegin = self.round * Self.patience
        self.nextChoice = self.round * Self.pause
    }

    /// Which of the shapes is the current one.
    var number: Int { self.numbers[self.current] }

    /// Whether the hash is one that the models see.
    func samples(_ hash: UInt32) -> Bool { Self.isIn(hash, self.shift) }

    private static func isIn(_ hash: UInt32, _ shift: Int) -> Bool {
        UInt64(hash &* 0xC2B2_AE35) >> UInt64(32 - shift) == 0
    }

    /// Shows a request to the models.
    ///
    /// - Returns: Whether another shape is now the current one.
    mutating func access(_ hash: UInt32, weight: Int, isHit: Bool, sketch: FrequencySketch) -> Bool {
        var hits: UInt8 = 0
        for number in self.models.indices where self.models[number].hit(hash) { hits |= 1 << UInt8(number) }
        if hits != self.all {
            for number in self.models.indices where hits & 1 << UInt8(number) == 0 {
                self.models[number].insert(hash, weight: weight, sketch: sketch)
            }
        }
        let hit = hits >> UInt8(self.current) & 1 != 0
        let disagreeing = hit ? ~hits & self.all : hits
        if disagreeing != 0 {
            for number in self.models.indices where disagreeing >> UInt8(number) & 1 != 0 {
                self.recent.count(number, isGain: !hit)
                self.lasting.count(number, isGain: !hit)
            }
        }
        if hit { self.promised += 1 }
        if isHit { self.kept += 1 }
        self.total += 1
        if self.total == self.trialBegin { (self.promised, self.kept) = (0, 0) }
        self.requests += 1
        if self.requests >= self.round * Self.memory { self.forget() }
        guard disagreeing != 0 || hit != isHit, self.total >= self.nextChoice else { return false }
        return self.choose()
    }

    /// A key was removed (`weight` 0) or got another weight.
    mutating func change(_ hash: UInt32, weight: Int, sketch: FrequencySketch) {
        guard self.samples(hash) else { return }
        for number in self.models.indices { self.models[number].change(hash, weight: weight, sketch: sketch) }
    }

    /// The cache holds another number of entries: the sample becomes thinner if it has become too large.
    mutating func fit(entries: Int, sketch: FrequencySketch) {
        let target = min(max(entries / Self.divisor, Self.leastEntries), Self.mostEntries)
        guard entries >> self.shift > target else { return }
        self.shift += 1
        let shift = self.shift
        for number in self.models.indices {
            self.models[number].thin(to: max(1, self.capacity >> shift), sketch: sketch) { Self.isIn($0, shift) }
        }
        self.forget()
        self.setRound(entries: entries)
    }

    /// Lets the past count half, the longer one less often.
    private mutating func forget() {
        self.requests = 0
        self.promised /= 2
        self.kept /= 2
        self.recent.halve()
        self.periods += 1
        if self.periods % Self.longMemory == 0 { self.lasting.halve() }
    }

    private mutating func setRound(entries: Int) {
        self.round = max(entries >> self.shift, min(Self.leastEntries, self.capacity))
    }

    private mutating func choose() -> Bool {
        if self.isBroken() {
            self.distrust[self.current] = self.total + self.round * Self.distrustTime << self.failures[self.current]
            self.failures[self.current] = min(self.failures[self.current] + 1, 8)
            self.begin(self.recent.best(among: self.isTrusted) ?? self.current)
            return true
        }
        guard
            let best = self.recent.surelyBest(evidence: Self.evidence, among: self.isTrusted)
                ?? self.lasting.surelyBest(evidence: Self.evidence, among: self.isTrusted)
        else { return false }
        // Towards recency a step at a time: what the main queue gives up for the window cannot be had back, while a window
        // that is too small grows as fast as requests come.
        self.begin(best < self.current ? best : (self.current + 1...best).first(where: self.isTrusted) ?? best)
        return true
    }

    private func isTrusted(_ number: Int) -> Bool {
        number != self.current && self.distrust[number] <= self.total
    }

    /// Whether the cache hits far less than its model promised.
    ///
    /// A sample of a loop may be a little shorter than its model while the loop is a little longer than the cache.
    private func isBroken() -> Bool {
        guard self.total >= self.trialBegin + self.round * Self.trial else { return false }
        let gap = self.promised - self.kept
        return gap * 4 > self.promised && gap * gap > Self.evidence * self.promised
    }

    private mutating func begin(_ number: Int) {
        self.current = number
        self.recent.clear()
        self.lasting.clear()
        self.trialBegin = self.total + self.round * Self.patience
        self.nextChoice = self.total + self.round * Self.pause
    }
}
