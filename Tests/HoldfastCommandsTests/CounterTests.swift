// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite(.timeLimit(.minutes(5)))
struct CounterTests {
    /// Each increment reads, adds and writes in three steps of a shell: without the lock, most would be lost.
    @Test
    func `eight processes count to 1600 under holdfast run`() async throws {
        let directory = try TestDirectory()
        try directory.write("0\n", to: "counter")
        let (processes, increments) = (8, 200)
        let file = "\(directory.path)/counter"
        // Only what the shell has built in, so that the time goes into the locks.
        let increment = "read n < \(file); echo $((n + 1)) > \(file)"
        let loop =
            "i=0; while [ $i -lt \(increments) ]; do \"$HOLDFAST\" run counter -- sh -c '\(increment)' || exit 1; "
            + "i=$((i + 1)); done"
        let counters = try (0..<processes).map { number in
            try HoldfastProcess(["run", "loop-\(number)", "--", "sh", "-c", loop], in: directory)
        }
        for counter in counters {
            let result = await counter.end()
            #expect(result.status == 0, "\(result.errors)")
        }
        #expect(directory.text("counter") == "\(processes * increments)")
    }
}
