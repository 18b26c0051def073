// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

/// Random commands against `LockTable`, with what must hold after each of them.
@Suite struct LockTablePropertyTests {
    @Test("Twenty thousand random command sequences keep every invariant", arguments: 0..<20)
    func invariants(block: UInt64) throws {
        for seed in block * 1000..<(block + 1) * 1000 {
            var run = PropertyRun(seed: seed)
            try run.run(steps: 14)
        }
    }
}

private struct PropertyRun {
    struct Broken: Error, CustomStringConvertible { let description: String }

    private let seed: UInt64
    private let modes: [LockMode]
    private var generator: SeededGenerator
    private var bench = TableBench()
    private var known: [LockRequest] = []
    private var byReference: [String: LockRequest] = [:]
    private var highestToken: FencingToken = .zero
    private var lastOrder: [String] = []

    init(seed: UInt64) {
        self.seed = seed
        var generator = SeededGenerator(seed: seed)
        self.modes =
            generator.chance(0.2)
            ? [.permit(of: 2)] : generator.chance(0.3) ? [.exclusive] : [.exclusive, .shared, .shared, .update]
        self.generator = generator
    }

    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            try self.step()
            // The holders are looked at in a copy, which costs time: not after every step.
            if self.generator.chance(0.5) { try self.checkHolders(self.settled.status("x")) }
            try self.checkOrder(self.bench.status("x"))
        }
        self.bench.pass(.seconds(100_000))
        self.bench.table.expire(at: self.bench.now, signals: &self.bench.signals)
        // The first round hands on to waiters who do not accept; nobody waits for ever.
        for _ in 0...steps where self.bench.table.count > 0 {
            self.bench.pass(.seconds(100_000))
            self.bench.table.expire(at: self.bench.now, signals: &self.bench.signals)
        }
        try self.require(self.bench.table.count == 0, "something is left at the end")
    }

    private mutating func step() throws {
        let request = self.known.randomElement(using: &self.generator) ?? self.newRequest()
        switch Int.random(in: 0..<100, using: &self.generator) {
        case ..<40: try self.acquire(self.newRequest())
        case ..<52: try self.acquire(request)
        case ..<60: _ = self.bench.renew(request)
        case ..<74: try self.release(request)
        case ..<80: try self.withdraw(request)
        case ..<84: try self.convert(request, to: self.modes.randomElement(using: &self.generator) ?? .exclusive)
        case ..<87: _ = self.bench.table.revoke("x", at: self.bench.now, signals: &self.bench.signals)
        case ..<90:
            _ = self.bench.table.forceRelease("x", at: self.bench.now, signals: &self.bench.signals)
            try self.require(
                self.bench.status("x").holders.allSatisfy(\.isAccepting),
                "a holder survived force"
            )
        default: self.bench.pass(self.generator.duration(in: .zero ... .seconds(4)))
        }
    }

    private mutating func newRequest() -> LockRequest {
        let request = self.bench.request(
            "x",
            mode: self.modes.randomElement(using: &self.generator) ?? .exclusive,
            lease: .seconds(Int.random(in: 1...8, using: &self.generator)),
            contention: self.generator.chance(0.8) ? .queue : .fail,
            waitLimit: self.generator.chance(0.3) ? .seconds(Int.random(in: 1...6, using: &self.generator)) : nil,
            acceptance: .seconds(Int.random(in: 1...3, using: &self.generator)),
            lockDelay: self.generator.chance(0.2) ? .seconds(2) : .zero,
            priority: self.generator.chance(0.3) ? Int.random(in: -5...5, using: &self.generator) : 0
        )
        self.known.append(request)
        self.byReference[request.id.reference] = request
        return request
    }

    /// Sends it, and sometimes again at once: the copy changes nothing and gets the same answer.
    private mutating func acquire(_ request: LockRequest) throws {
        let wasHeld = self.settled.status("x").holders.contains { $0.reference == request.id.reference }
        let reply = try self.bench.acquire(request)
        if case .granted(let token) = reply, !wasHeld {
            try self.require(
                token > self.highestToken || self.bench.signals.contains(.granted(request.id)),
                "tokens rise"
            )
        }
        guard self.generator.chance(0.5) else { return }
        let status = self.bench.status("x")
        self.bench.signals = []
        if case .busy = reply { return }
        try self.require(try self.bench.acquire(request) == reply, "a copy was answered otherwise")
        try self.require(self.bench.status("x") == status && self.bench.signals == [], "a copy changed something")
    }

    private mutating func release(_ request: LockRequest) throws {
        let held = self.settled.status("x").holders.contains { $0.reference == request.id.reference }
        let reply = self.bench.table.release(request.key, at: self.bench.now, signals: &self.bench.signals)
        try self.require((reply == .released) == held, "release says \(reply)")
        let status = self.bench.status("x")
        let again = self.bench.table.release(request.key, at: self.bench.now, signals: &self.bench.signals)
        try self.require(again == .alreadyLost && self.bench.status("x") == status, "a second release did something")
    }

    private mutating func withdraw(_ request: LockRequest) throws {
        _ = self.bench.table.withdraw(request.key, at: self.bench.now, signals: &self.bench.signals)
        try self.require(try self.bench.acquire(request) == .finished, "withdrawn, and yet alive")
    }

    private mutating func convert(_ request: LockRequest, to mode: LockMode) throws {
        let before = self.settled.status("x").holders.first { $0.reference == request.id.reference }
        guard case .converted(let token) = self.bench.convert(request, to: mode) else { return }
        guard let before, let old = before.fencingToken else {
            throw Broken(description: "converted what was not held")
        }
        if mode == .exclusive, before.mode != .exclusive {
            try self.require(token > self.highestToken, "an upgrade brings a new token")
        } else {
            try self.require(token == old, "only an upgrade changes the token")
        }
    }

    /// A copy in which what is over has ended.
    ///
    /// A command does that first, a look does not; a copy lets commands meet both.
    private var settled: TableBench {
        var copy = self.bench
        copy.table.expire(at: copy.now, signals: &copy.signals)
        return copy
    }

    // MARK: - Invariants

    private func checkHolders(_ status: ResourceStatus) throws {
        for (index, holder) in status.holders.enumerated() {
            var others = status.holders.map(\.mode)
            others.remove(at: index)
            try self.require(holder.mode.isCompatible(with: others), "two holders exclude each other")
            try self.require(holder.remaining ?? .zero > .zero, "an ended hold is still there")
        }
        if status.restingFor == nil, let next = status.waiters.first {
            try self.require(
                !next.mode.isCompatible(with: status.holders.map(\.mode)),
                "the next in line fits and was not granted"
            )
        }
    }

    private mutating func checkOrder(_ status: ResourceStatus) throws {
        let tokens = status.holders.compactMap(\.fencingToken)
        try self.require(Set(tokens).count == tokens.count, "two holders have one token")
        self.highestToken = max(self.highestToken, tokens.max() ?? .zero)
        let order = status.waiters.map(\.reference)
        try self.require(Set(order).count == order.count, "a request waits twice")
        try self.require(
            Set(order).isDisjoint(with: status.holders.compactMap(\.reference)),
            "a holder waits for itself"
        )
        let staying = Set(order).intersection(self.lastOrder)
        try self.require(
            order.filter(staying.contains) == self.lastOrder.filter(staying.contains),
            "waiters changed places"
        )
        self.lastOrder = order
    }

    private func require(_ condition: Bool, _ message: String) throws {
        if !condition { throw Broken(description: "seed \(self.seed): \(message); \(self.bench.status("x"))") }
    }
}
