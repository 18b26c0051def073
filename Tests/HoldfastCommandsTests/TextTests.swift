// SPDX-License-Identifier: Apache-2.0

import HoldfastCommands
import HoldfastCore
import Testing

@Suite
struct DurationTextTests {
    @Test(arguments: [
        ("0", Duration.zero), ("0s", .zero), ("1.5s", .milliseconds(1500)), ("500ms", .milliseconds(500)),
        ("2m", .seconds(120)), ("1h", .seconds(3600)), ("1m30s", .seconds(90)), ("1d", .seconds(86_400)),
        (".5s", .milliseconds(500)), ("5.s", .seconds(5)), ("250us", .microseconds(250)), ("7ns", .nanoseconds(7)),
    ])
    func `durations are read as people write them`(text: String, duration: Duration) throws {
        #expect(try DurationText.parse(text) == duration)
    }

    @Test(arguments: [
        "", "5", "s", "-1s", "1x", "1 s", "1.2.3s", ".s", "1e3s", "99999999999999999999s", "300000000h", "1s5", "٣s",
    ])
    func `anything else is refused with a sentence`(text: String) {
        #expect(throws: DurationText.Problem.self) { try DurationText.parse(text) }
    }

    @Test
    func `a number without a unit is answered with how to write it`() {
        let problem = #expect(throws: DurationText.Problem.self) { try DurationText.parse("30") }
        #expect(problem?.description == "the duration '30' has no unit; write 30s or 30ms")
    }

    @Test(arguments: [
        (Duration.milliseconds(0), "0ms"), (.milliseconds(350), "350ms"), (.milliseconds(1250), "1.2s"),
        (.seconds(12), "12s"), (.seconds(185), "3m05s"), (.seconds(7800), "2h10m"), (.seconds(97 * 3600), "4d1h"),
        (.milliseconds(-350), "-350ms"),
    ])
    func `durations are shown in a few characters`(duration: Duration, text: String) {
        #expect(DurationText.short(duration) == text)
    }
}

@Suite
struct TerminalTextTests {
    @Test(arguments: [
        ("plain", "plain"), ("é 漢字", "é 漢字"), ("a\u{1B}[31mb", "a\\u{1B}[31mb"), ("a\nb", "a\\u{A}b"),
        ("x\u{9B}y", "x\\u{9B}y"), ("\u{202E}gnp.exe", "\\u{202E}gnp.exe"), ("a\u{200B}b", "a\\u{200B}b"),
        ("\u{7F}", "\\u{7F}"),
    ])
    func `what moves the cursor or hides text is shown as a number`(text: String, shown: String) {
        #expect(TerminalText.escaped(text) == shown)
    }

    @Test
    func `JSON output has no control characters, not even those that JSON allows`() {
        let value = JSONValue.object([.init("a\u{1B}", .string("\u{9B}31m\u{202E}\"\\\n"))])
        #expect(value.text == #"{"a\u001b":"\u009b31m\u202e\"\\\n"}"#)
    }

    @Test(arguments: [
        (JSONValue.decimal(1.005, places: 2), "1.00"), (.decimal(-0.04, places: 1), "0.0"),
        (.decimal(12, places: 0), "12"),
        (.decimal(.nan, places: 1), "null"), (.decimal(0.05, places: 3), "0.050"), (.decimal(-1.26, places: 1), "-1.3"),
    ])
    func `decimals have their places`(value: JSONValue, text: String) {
        #expect(value.text == text)
    }
}

@Suite
struct TextTableTests {
    @Test
    func `columns are aligned by what is shown, and cells cannot disturb the terminal`() {
        var table = TextTable([("NAME", .left), ("N", .right), ("LAST", .left)])
        table.append(["漢字", "1", "x"])
        table.append(["a\u{1B}b", "100", ""])
        #expect(
            table.lines(style: .plain) == [
                "NAME        N  LAST",
                "漢字        1  x",
                "a\\u{1B}b  100  ",
            ]
        )
    }

    @Test
    func `styles are escape sequences only where they are allowed`() {
        #expect(TerminalStyle.plain.bold("x") == "x")
        #expect(TerminalStyle.plain.redraw(lines: 3) == "")
        #expect(TerminalStyle(isStyled: true).red("x") == "\u{1B}[31mx\u{1B}[0m")
    }
}
