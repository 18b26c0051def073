// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastTesting
import Testing

@Suite("The wheel of deadlines")
struct DeadlineWheelTests {
    @Test("Random use agrees with a plain list: nothing early, nothing later than a millisecond, nothing twice")
    func agreesWithList() {
        for seed in 1...200 as ClosedRange<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let origin = ContinuousClock().now
            var wheel = DeadlineWheel<Int>(origin: origin)
            var list: [Int: ContinuousClock.Instant] = [:]
            var now = origin
            for _ in 0..<200 {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0, 1:
                    let key = Int.random(in: 0..<20, using: &generator)
                    let instant = now.advanced(by: generator.duration(in: .zero ... .milliseconds(500)))
                    wheel.set(key, at: instant)
                    list[key] = instant
                case 2:
                    let key = Int.random(in: 0..<20, using: &generator)
                    wheel.clear(key)
                    list[key] = nil
                case _:
                    now = now.advanced(by: generator.duration(in: .zero ... .milliseconds(200)))
                    let due = wheel.due(at: now)
                    #expect(Set(due).count == due.count)
                    for key in due { #expect(list.removeValue(forKey: key).map { $0 <= now } == true) }
                    for (_, instant) in list { #expect(instant > now.advanced(by: .milliseconds(-1))) }
                }
                #expect(wheel.count == list.count)
                if let earliest = list.values.min() {
                    #expect(wheel.next.map { $0 <= earliest.advanced(by: .milliseconds(1)) } == true)
                }
            }
        }
    }

    @Test("Setting a key again moves it")
    func moves() {
        let origin = ContinuousClock().now
        var wheel = DeadlineWheel<String>(origin: origin)
        wheel.set("a", at: origin.advanced(by: .milliseconds(5)))
        wheel.set("a", at: origin.advanced(by: .milliseconds(50)))
        #expect(wheel.due(at: origin.advanced(by: .milliseconds(20))).isEmpty)
        #expect(wheel.due(at: origin.advanced(by: .milliseconds(50))) == ["a"])
        #expect(wheel.isEmpty && wheel.next == nil)
    }

    @Test("Deadlines that are cleared long before their time cost no memory, and what is left is due in time")
    func forgetsStrays() {
        let origin = ContinuousClock().now
        var wheel = DeadlineWheel<Int>(origin: origin)
        let late = origin.advanced(by: .seconds(10))
        for key in 0..<100_000 {
            wheel.set(key, at: late)
            if key % 1000 > 0 { wheel.clear(key) }
        }
        #expect(wheel.count == 100 && wheel.noted < 3000)
        // Set and cleared and set again in the same millisecond, it is due once.
        wheel.clear(1000)
        wheel.set(1000, at: late)
        #expect(wheel.due(at: late).sorted() == (0..<100).map { $0 * 1000 })
        #expect(wheel.isEmpty && wheel.noted == 0 && wheel.next == nil)
    }
}
