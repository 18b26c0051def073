// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore
import HoldfastTesting
import Testing

@Suite struct ResourceTests {
    @Test("A good name is kept as it is", arguments: ["x", "invoices/42", "naïve", "日本語", " ", "*?[]", "%", "\u{A0}"])
    func good(name: String) throws { #expect(try Resource(name).name == name) }

    @Test(
        "A name that breaks a rule is refused, and the error says how to escape it",
        arguments: ["", "a\nb", "a\u{0}b", "a\u{7F}", "a\u{85}b", "a{b", "a}b", String(repeating: "x", count: 513)]
    )
    func bad(name: String) {
        let error = #expect(throws: LockError.self) { try Resource(name) }
        #expect(error?.code == .invalidResource)
        #expect(error?.message.contains("Resource(escaping:)") == true)
        #expect(error?.message.unicodeScalars.allSatisfy { $0.value >= 0x20 } == true)
    }

    @Test("The limit counts bytes, not characters")
    func length() throws {
        #expect(throws: Never.self) { try Resource(String(repeating: "é", count: 256)) }
        #expect(throws: LockError.self) { try Resource(String(repeating: "é", count: 257)) }
    }

    @Test("Names are equal exactly when their bytes are")
    func equality() {
        let composed: Resource = "\u{e9}"
        let decomposed: Resource = "e\u{301}"
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed, composed]).count == 2)
        #expect(composed > decomposed)
        #expect(!(composed < composed))
    }

    @Test("Escaping gives a good name of any text, leaves good text alone, and can be undone")
    func escaping() throws {
        #expect(Resource(escaping: "a{b}").name == "a%7Bb%7D")
        #expect(Resource(escaping: "").name == "%")
        #expect(Resource(escaping: "100%").name == "100%25")
        #expect(Resource(escaping: "\u{85}").name == "%C2%85")
        #expect(Resource(escaping: "plain/ñ").name == "plain/ñ")
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<5000 {
            let text = Self.text(length: 0...40, using: &generator)
            let name = Resource(escaping: text).name
            #expect(throws: Never.self) { try Resource(name) }
            if !text.isEmpty { #expect(name.removingPercentEncoding.map { Array($0.utf8) } == Array(text.utf8)) }
        }
    }

    @Test("Long texts give names that fit and stay apart")
    func longTexts() throws {
        var generator = SeededGenerator(seed: 8)
        var names: Set<Resource> = []
        for _ in 0..<2000 {
            let resource = Resource(escaping: Self.text(length: 600...700, using: &generator))
            #expect(resource.name.utf8.count <= Resource.maximumLength)
            #expect(throws: Never.self) { try Resource(resource.name) }
            names.insert(resource)
        }
        #expect(names.count == 2000)
        let stem = String(repeating: "x", count: 600)
        #expect(Resource(escaping: stem + "a") != Resource(escaping: stem + "b"))
    }

    @Test("Coding keeps a name and checks it")
    func coding() throws {
        let resource: Resource = "a/b \"c\""
        let data = try JSONEncoder().encode([resource])
        #expect(try JSONDecoder().decode([Resource].self, from: data) == [resource])
        #expect(throws: LockError.self) {
            try JSONDecoder().decode([Resource].self, from: Data(#"["a{b}"]"#.utf8))
        }
    }

    private static func text(length: ClosedRange<Int>, using generator: inout SeededGenerator) -> String {
        let alphabet: [Unicode.Scalar] = [
            "a", "%", "2", "5", "{", "}", "\n", "\u{0}", "\u{85}", "é", "日", "\u{301}", "👩",
        ]
        var text = ""
        for _ in 0..<Int.random(in: length, using: &generator) {
            text.unicodeScalars.append(alphabet[Int.random(in: alphabet.indices, using: &generator)])
        }
        return text
    }
}

@Suite struct ResourcePatternTests {
    @Test("Matching agrees with the naive definition")
    func reference() throws {
        var generator = SeededGenerator(seed: 9)
        var matches = 0
        for _ in 0..<20_000 {
            let pattern = Self.word("ab*?é", 0...7, using: &generator)
            let name = Self.word("abé", 1...7, using: &generator)
            let expected = Self.naive(Array(pattern.unicodeScalars)[...], Array(name.unicodeScalars)[...])
            #expect(ResourcePattern(pattern).matches(try Resource(name)) == expected, "\(pattern) \(name)")
            if expected { matches += 1 }
        }
        #expect(matches > 2000 && matches < 18_000)
    }

    @Test("Many wildcards do not take for ever")
    func worstCase() throws {
        let pattern = ResourcePattern(String(repeating: "a*", count: 200) + "b")
        #expect(!pattern.matches(try Resource(String(repeating: "a", count: 512))))
    }

    @Test("Brackets and backslashes are plain text")
    func plainText() {
        #expect(ResourcePattern("[ab]").matches("[ab]"))
        #expect(!ResourcePattern("[ab]").matches("a"))
        #expect(ResourcePattern("\\*").matches("\\x"))
        #expect(ResourcePattern.all.matches("anything"))
    }

    private static func naive(_ pattern: ArraySlice<Unicode.Scalar>, _ name: ArraySlice<Unicode.Scalar>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        if first == "*" {
            return naive(pattern.dropFirst(), name) || (!name.isEmpty && naive(pattern, name.dropFirst()))
        }
        guard let letter = name.first, first == "?" || first == letter else { return false }
        return naive(pattern.dropFirst(), name.dropFirst())
    }

    private static func word(_ alphabet: String, _ length: ClosedRange<Int>, using generator: inout SeededGenerator)
        -> String
    {
        var word = ""
        for _ in 0..<Int.random(in: length, using: &generator) {
            word.append(alphabet.randomElement(using: &generator) ?? "a")
        }
        return word
    }
}
