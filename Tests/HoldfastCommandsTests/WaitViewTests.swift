// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCommands
import HoldfastCore
import Testing

@Suite
struct WaitViewTests {
    private func owner(_ pid: Int32, _ label: String? = nil) -> OwnerID {
        OwnerID(
            process: ProcessIdentity(instance: UInt64(pid), host: "vm", pid: pid, started: 1, program: "sh"),
            serial: 1,
            label: label
        )
    }

    private func holder(_ reference: String, _ pid: Int32) -> Holder {
        Holder(
            reference: reference,
            owner: self.owner(pid),
            mode: .exclusive,
            fencingToken: FencingToken(rawValue: 7),
            heldFor: .seconds(3),
            remaining: .seconds(20)
        )
    }

    private func waiter(_ reference: String, _ pid: Int32, holding: [String]) -> Waiter {
        Waiter(
            reference: reference,
            owner: self.owner(pid),
            mode: .exclusive,
            waitingFor: .seconds(2),
            holding: holding
        )
    }

    /// 1 holds a and waits for b, 2 holds b and waits for a; 3 holds c and waits for a.
    private var deadlocked: [ResourceStatus] {
        [
            ResourceStatus(
                resource: "a",
                holders: [self.holder("00000001", 1)],
                waiters: [
                    self.waiter("00000012", 2, holding: ["00000002"]),
                    self.waiter("00000013", 3, holding: ["00000003"]),
                ]
            ),
            ResourceStatus(
                resource: "b\"]|x",
                holders: [self.holder("00000002", 2)],
                waiters: [self.waiter("00000011", 1, holding: ["00000001"])]
            ),
            ResourceStatus(resource: "c", holders: [self.holder("00000003", 3)], waiters: []),
        ]
    }

    @Test
    func `a graph marks the circle and nothing else`() throws {
        let view = WaitGraphView(self.deadlocked)
        #expect(view.hasDeadlock)
        let lines = view.lines(style: TerminalStyle(isStyled: false))
        #expect(lines.filter { $0.hasSuffix("DEADLOCK") }.count == 2)
        #expect(lines.last?.hasPrefix("deadlock 1: ") == true)
        let dot = view.dot
        #expect(dot.hasPrefix("digraph holdfast {") && dot.hasSuffix("}"))
        #expect(dot.contains(#"b\"]|x"#))
        #expect(dot.split(separator: "\n").filter { $0.contains("color=red") }.count == 4)
        let mermaid = view.mermaid
        #expect(mermaid.hasPrefix("graph LR\n"))
        #expect(!mermaid.contains(#"b"]"#))
        #expect(mermaid.contains("linkStyle "))
        #expect(view.json.text.contains(#""deadlocks":[{"#))
    }

    @Test
    func `why follows the holders to the root and says what to do`() throws {
        let free = WhyView("a", [])
        #expect(free.lines == ["'a' is free"])
        let chain = WhyView(
            "a",
            [
                ResourceStatus(resource: "a", holders: [self.holder("00000001", 1)], waiters: []),
                ResourceStatus(
                    resource: "b",
                    holders: [self.holder("00000002", 2)],
                    waiters: [self.waiter("00000011", 1, holding: ["00000001"])]
                ),
            ]
        )
        #expect(chain.lines.count == 3)
        #expect(chain.lines[0].contains("'a' is held by sh[1]@vm for 3.0s (exclusive), which waits for 'b'"))
        #expect(chain.lines[1].hasPrefix("  'b' is held by sh[2]@vm"))
        #expect(chain.lines[2].contains("pid 2 on vm") && chain.lines[2].contains("holdfast revoke 'b'"))
        #expect(WhyView("c", self.deadlocked).lines.last?.contains("wait for each other") == true)
    }

    @Test
    func `what an outer command passes on is read with care`() {
        let good = ["HOLDFAST_OWNER": "00000000000000ff-3", "HOLDFAST_HOLDING": "0123abcd,deadbeef"]
        let inherited = Inheritance.read(Environment(good), label: "job")
        #expect(inherited?.owner.id == "00000000000000ff-3")
        #expect(inherited?.owner.label == "job")
        #expect(inherited?.holding == ["0123abcd", "deadbeef"])
        for (name, value) in [
            ("HOLDFAST_OWNER", "x"), ("HOLDFAST_OWNER", "00000000000000ff-"), ("HOLDFAST_HOLDING", ""),
            ("HOLDFAST_HOLDING", "x;y"), ("HOLDFAST_HOLDING", String(repeating: "0123abcd,", count: 65)),
        ] {
            #expect(Inheritance.read(Environment(good.merging([name: value]) { $1 }), label: nil) == nil)
        }
        #expect(Inheritance.read(Environment([:]), label: nil) == nil)
    }
}
