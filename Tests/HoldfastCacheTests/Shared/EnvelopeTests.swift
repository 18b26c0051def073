// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Envelopes")
struct EnvelopeTests {
    private static func envelope(_ generator: inout SeededGenerator) -> Envelope {
        var envelope = Envelope(codec: .random(in: 1...255, using: &generator))
        envelope.isNotFound = Bool.random(using: &generator)
        envelope.mark = .random(in: 0...UInt64.max, using: &generator)
        envelope.freshFor = .random(in: 0...1 << 40, using: &generator)
        envelope.revalidateFor = Bool.random(using: &generator) ? .max : envelope.freshFor + 7
        envelope.keptFor = envelope.revalidateFor
        envelope.loadTime = .random(in: 0...1 << 40, using: &generator)
        envelope.entityTag = Bool.random(using: &generator) ? nil : "\"ü-\(envelope.mark)\""
        envelope.writer = Bool.random(using: &generator) ? "" : "shöp[\(envelope.loadTime)]@host"
        envelope.tags = (0..<Int.random(in: 0...32, using: &generator)).map { "tag \($0)" }
        let count = Int.random(in: 0...300, using: &generator)
        envelope.payload = (0..<count).map { _ in .random(in: 0...255, using: &generator) }[...]
        return envelope
    }

    @Test("come back as they were")
    func roundTrip() throws {
        var generator = SeededGenerator(seed: 1)
        for number in 0..<500 {
            let envelope = Self.envelope(&generator)
            let bytes = envelope.encoded(for: "k\(number)", in: "n")
            #expect(try Envelope(bytes, for: "k\(number)", in: "n", limit: 1 << 20) == envelope)
        }
    }

    @Test("that lost or gained anything, or any single bit of which changed, are found out")
    func damage() throws {
        var generator = SeededGenerator(seed: 2)
        let bytes = Self.envelope(&generator).encoded(for: "key", in: "n")
        for bit in 0..<bytes.count * 8 {
            var broken = bytes
            broken[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: Envelope.Fault.self) { try Envelope(broken, for: "key", in: "n", limit: 1 << 20) }
        }
        for length in 0..<bytes.count {
            #expect(throws: Envelope.Fault.self) {
                try Envelope(Array(bytes.prefix(length)), for: "key", in: "n", limit: 1 << 20)
            }
        }
        #expect(throws: Envelope.Fault.damaged) { try Envelope(bytes + [0], for: "key", in: "n", limit: 1 << 20) }
    }

    @Test("of another key or another cache are not used, also when the texts run together")
    func otherKey() throws {
        let bytes = Envelope(codec: 1).encoded(for: "ab", in: "c")
        for (key, namespace) in [("ac", "c"), ("ab", "d"), ("b", "ca"), ("", "cab")] {
            #expect(throws: Envelope.Fault.damaged) { try Envelope(bytes, for: key, in: namespace, limit: 100) }
        }
    }

    @Test("with a payload above the limit are refused before it is looked at")
    func limit() throws {
        var envelope = Envelope(codec: 1)
        envelope.payload = Array(repeating: 0x5B, count: 1001)[...]
        let bytes = envelope.encoded(for: "k", in: "n")
        #expect(throws: Envelope.Fault.tooLarge) { try Envelope(bytes, for: "k", in: "n", limit: 1000) }
        #expect(try Envelope(bytes, for: "k", in: "n", limit: 1001).payload.count == 1001)
    }

    @Test("that are something else are foreign")
    func foreign() throws {
        for text in ["", "HF", "{\"a\":1}", "HFE\u{1}", "HFE\u{3}", "\u{0}\u{0}\u{0}\u{0}"] {
            #expect(throws: Envelope.Fault.foreign) {
                try Envelope(Array(text.utf8), for: "k", in: "n", limit: 100)
            }
        }
    }

    @Test("any bytes are refused without harm")
    func fuzz() {
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<20_000 {
            var bytes = (0..<Int.random(in: 0...120, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            if bytes.count > 4 { bytes.replaceSubrange(0..<4, with: [0x48, 0x46, 0x45, 1]) }
            #expect(throws: Envelope.Fault.self) { try Envelope(bytes, for: "k", in: "n", limit: 100) }
        }
    }

    private struct Product: Codable, Sendable, Hashable {
        var name: String
        var price: Int?
    }

    @Test("JSON comes back, single values as well, and what is not JSON of the type is an error")
    func json() throws {
        let codec = JSONCacheCodec<Product>()
        let product = Product(name: "ü/\"\u{1F600}", price: nil)
        #expect(try codec.decode(try codec.encode(product)[...]) == product)
        #expect(try JSONCacheCodec<Int>().decode(try JSONCacheCodec<Int>().encode(7)[...]) == 7)
        for text in ["", "{", "[]", "{\"name\":1}", "null"] {
            #expect(throws: (any Error).self) { try codec.decode(Array(text.utf8)[...]) }
        }
    }
}
