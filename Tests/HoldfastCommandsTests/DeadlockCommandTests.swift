// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// Processes that wait for each other, on the embedded store and on Redis.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct DeadlockCommandTests {
    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    /// Runs a script in which `$HOLDFAST` is the program, on each store.
    private func onEachStore(_ script: String) async throws -> [GuardedChild.End] {
        let server = try await RedisServer()
        var ends: [GuardedChild.End] = []
        for store in ["sqlite:\(self.directory.path)/locks.db", server.url] {
            let environment = [
                "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=\(self.directory.path)",
                "HOLDFAST=\(HoldfastProcess.program)", "HOLDFAST_STORE=\(store)", "D=\(self.directory.path)",
            ]
            let child = try GuardedChild(
                ["/bin/sh", "-c", script].map { CText($0) },
                environment: environment.map { CText($0) },
                deadline: BootTime.now + 60_000_000_000
            )
            ends.append(await child.end())
        }
        withExtendedLifetime(server) {}
        return ends
    }

    @Test
    func `of two jobs that wait for each other one ends with 77 and the circle in one line`() async throws {
        let ends = try await self.onEachStore(
            """
            rm -f $D/a $D/b $D/said1 $D/said2
            job() { "$HOLDFAST" run $1 -- sh -c "echo > $D/$1; while [ ! -e $D/$2 ]; do sleep 0.01; done
                exec \\"\\$HOLDFAST\\" run $2 --wait 30s -- true" 2> $D/said$3; }
            job a b 1 & one=$!; job b a 2 & two=$!
            wait $one; first=$?; wait $two; second=$?
            [ $(( first + second )) = 77 ] || exit 1
            cat $D/said1 $D/said2 > $D/said
            [ $(wc -l < $D/said) = 1 ] && grep -q 'waits for a held by .* waits for b held by\\|waits for b held by .* waits for a held by' $D/said
            """
        )
        #expect(ends == [.exited(0), .exited(0)], "\(self.directory.text("said"))")
    }

    @Test
    func `a deadlock that is only reported can be looked at from outside`() async throws {
        let ends = try await self.onEachStore(
            """
            rm -f $D/a $D/b $D/said*
            job() { exec "$HOLDFAST" run $1 -- sh -c "echo > $D/$1; while [ ! -e $D/$2 ]; do sleep 0.01; done
                exec \\"\\$HOLDFAST\\" run $2 --deadlocks report -- true" 2> $D/said$3; }
            job a b 1 & one=$!; job b a 2 & two=$!
            tries=0
            until "$HOLDFAST" graph --format mermaid > $D/graph; [ $? = 77 ]; do
                tries=$((tries + 1)); [ $tries -lt 200 ] || exit 1; sleep 0.05
            done
            grep -q '^graph LR' $D/graph && grep -q linkStyle $D/graph || exit 2
            tries=0
            until "$HOLDFAST" why a | grep -q 'wait for each other'; do
                tries=$((tries + 1)); [ $tries -lt 200 ] || exit 3; sleep 0.05
            done
            tries=0
            until cat $D/said1 $D/said2 | grep -q 'deadlock, waiting on'; do
                tries=$((tries + 1)); [ $tries -lt 200 ] || exit 4; sleep 0.05
            done
            kill $one $two; wait $one; wait $two; exit 0
            """
        )
        #expect(ends == [.exited(0), .exited(0)], "\(self.directory.text("graph"))")
    }

    @Test
    func `when half of a queue of 50 is killed, the others go on (redisson 1104)`() async throws {
        let ends = try await self.onEachStore(
            """
            rm -f $D/ran $D/holds; pids=
            "$HOLDFAST" run q -- sh -c "echo > $D/holds; while [ ! -e $D/go ]; do sleep 0.02; done" & holder=$!
            while [ ! -e $D/holds ]; do sleep 0.01; done
            for i in $(seq 50); do "$HOLDFAST" run --wait 50s q -- sh -c "echo $i >> $D/ran" & pids="$pids $!"; done
            until [ "$("$HOLDFAST" show q --format json | grep -o waiting_for_s | wc -l)" = 50 ]; do sleep 0.05; done
            i=0; alive=; for pid in $pids; do
                i=$((i + 1)); if [ $((i % 2)) = 0 ]; then kill -9 $pid; else alive="$alive $pid"; fi
            done
            echo > $D/go; wait $holder; rm $D/go
            for pid in $alive; do wait $pid || exit 1; done
            [ $(wc -l < $D/ran) = 25 ]
            """
        )
        #expect(ends == [.exited(0), .exited(0)])
    }

    @Test
    func `five philosophers all eat`() async throws {
        let ends = try await self.onEachStore(
            """
            eat() {
                until "$HOLDFAST" run fork$1 -- sh -c "sleep 0.1; exec \\"\\$HOLDFAST\\" run fork$2 -- sleep 0.05" 2>/dev/null; do
                    [ $? = 77 ] || return 1
                    sleep 0.0$1
                done
            }
            pids=; for i in 0 1 2 3 4; do eat $i $(( (i + 1) % 5 )) & pids="$pids $!"; done
            for pid in $pids; do wait $pid || exit 1; done
            """
        )
        #expect(ends == [.exited(0), .exited(0)])
    }

    @Test
    func `a nested run enters the lock of the outer one, and cannot get it in a stronger mode`() async throws {
        let ends = try await self.onEachStore(
            """
            outer=$("$HOLDFAST" run a -- sh -c 'echo $HOLDFAST_FENCING_TOKEN; "$HOLDFAST" run a --wait 0 -- sh -c "echo \\$HOLDFAST_FENCING_TOKEN"') || exit 1
            set -- $outer; [ "$1" = "$2" ] || exit 2
            "$HOLDFAST" run --shared a -- "$HOLDFAST" run a --wait 0 -- true 2> /dev/null; [ $? = 77 ] || exit 3
            """
        )
        #expect(ends == [.exited(0), .exited(0)])
    }

    @Test
    func `of those who are elected one leads at a time, and the next takes over`() async throws {
        let ends = try await self.onEachStore(
            """
            rm -f $D/led
            for i in 1 2 3; do
                "$HOLDFAST" elect boss -- sh -c "mkdir $D/leads || exit 9; echo $i >> $D/led; sleep 0.1; rmdir $D/leads" & pids="$pids $!"
            done
            for pid in $pids; do wait $pid || exit 1; done
            [ $(sort -u $D/led | wc -l) = 3 ]
            """
        )
        #expect(ends == [.exited(0), .exited(0)])
    }

    @Test
    func `permits and readers share, and an update keeps updates out`() async throws {
        let ends = try await self.onEachStore(
            """
            "$HOLDFAST" run --mode permit:2 s -- "$HOLDFAST" run --mode permit:2 --wait 0 s -- true || exit 1
            "$HOLDFAST" run --mode permit:1 s -- sh -c 'unset HOLDFAST_OWNER; "$HOLDFAST" run --mode permit:1 --wait 0 s -- true' 2> /dev/null
            [ $? = 75 ] || exit 2
            "$HOLDFAST" run --mode update r -- sh -c 'unset HOLDFAST_OWNER; "$HOLDFAST" run --shared --wait 0 r -- true' || exit 3
            "$HOLDFAST" run --mode update r -- sh -c 'unset HOLDFAST_OWNER; "$HOLDFAST" run --mode update --wait 0 r -- true' 2> /dev/null
            [ $? = 75 ] || exit 4
            """
        )
        #expect(ends == [.exited(0), .exited(0)])
    }
}
