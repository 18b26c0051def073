// SPDX-License-Identifier: Apache-2.0

/// How badly the way to a store behaves.
///
/// Requests, replies and signals each take their own random time, so they overtake one another.
public struct FaultPlan: Sendable, Hashable {
    /// How long a request, and a reply, take; each draws its own.
    public var delay: ClosedRange<Duration> = .zero ... .zero
    /// How often a message takes `longDelay` instead.
    public var longDelayChance: Double = 0
    /// The time of a message that is late.
    public var longDelay: ClosedRange<Duration> = .seconds(1) ... .seconds(5)
    /// How often a request never arrives.
    public var requestLoss: Double = 0
    /// How often a request takes effect and its reply never arrives.
    public var replyLoss: Double = 0
    /// How often a request arrives twice.
    public var duplication: Double = 0
    /// How much later the second copy comes.
    public var duplicateDelay: ClosedRange<Duration> = .zero ... .seconds(2)
    /// How often a signal never arrives.
    public var signalLoss: Double = 0
    /// How often a signal arrives twice.
    public var signalDuplication: Double = 0
    /// How long a signal takes.
    public var signalDelay: ClosedRange<Duration> = .zero ... .zero

    /// A way without faults and without delay.
    public init() {}

    /// A way without faults and without delay.
    public static let none = FaultPlan()

    /// A healthy network: some milliseconds, nothing lost.
    public static let healthy: FaultPlan = {
        var plan = FaultPlan()
        plan.delay = .microseconds(200) ... .milliseconds(3)
        plan.signalDelay = .microseconds(200) ... .milliseconds(3)
        return plan
    }()

    /// A bad network: each kind of fault every few messages.
    public static let bad: FaultPlan = {
        var plan = FaultPlan()
        plan.delay = .microseconds(200) ... .milliseconds(50)
        plan.longDelayChance = 0.02
        plan.requestLoss = 0.04
        plan.replyLoss = 0.04
        plan.duplication = 0.05
        plan.signalLoss = 0.1
        plan.signalDuplication = 0.05
        plan.signalDelay = .zero ... .milliseconds(100)
        return plan
    }()

    /// Draws how long one message takes.
    func messageDelay(using generator: inout SeededGenerator) -> Duration {
        generator.duration(in: generator.chance(self.longDelayChance) ? self.longDelay : self.delay)
    }

    /// Draws what becomes of one request.
    func requestFate(using generator: inout SeededGenerator) -> RequestFate {
        var fate = RequestFate()
        if !generator.chance(self.requestLoss) { fate.arrivals.append(self.messageDelay(using: &generator)) }
        if generator.chance(self.duplication) {
            let first = fate.arrivals.first ?? .zero
            fate.arrivals.append(first + generator.duration(in: self.duplicateDelay))
        }
        fate.reply = generator.chance(self.replyLoss) ? nil : self.messageDelay(using: &generator)
        return fate
    }

    /// Draws after how long a signal arrives; twice, or never.
    func signalArrivals(using generator: inout SeededGenerator) -> [Duration] {
        var arrivals: [Duration] = []
        if !generator.chance(self.signalLoss) { arrivals.append(generator.duration(in: self.signalDelay)) }
        if generator.chance(self.signalDuplication) {
            arrivals.append(generator.duration(in: self.signalDelay) + generator.duration(in: self.duplicateDelay))
        }
        return arrivals
    }
}

/// What becomes of one request.
struct RequestFate {
    /// After how long each copy arrives.
    var arrivals: [Duration] = []
    /// How long the replies take, or `nil` when they are lost.
    var reply: Duration?
}
