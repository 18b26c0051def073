// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Glibc
import HoldfastCommands
import Testing

/// Terminals that stop, readers that are gone, texts that are not UTF-8, files that are none.
@Suite(.timeLimit(.minutes(5)))
struct OddWorldTests {
    let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    /// Runs a script in which `$HOLDFAST` is the program.
    private func shell(_ script: String) async throws -> GuardedChild.End {
        let environment = [
            "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=\(self.directory.path)", "HOLDFAST=\(HoldfastProcess.program)",
            "HOLDFAST_STORE=sqlite:\(self.directory.path)/locks.db", "D=\(self.directory.path)",
        ]
        return await
            (try GuardedChild(
                ["/bin/sh", "-c", script].map { CText($0) },
                environment: environment.map { CText($0) },
                deadline: BootTime.now + 30_000_000_000
            )).end()
    }

    private func text(_ name: String) -> String { self.directory.text(name) }

    @Test
    func `a command that was asked to end gets no more time by the renewal of another lock`() async throws {
        let script = "trap '' TERM; echo ready > $D/ready; for i in 1 2 3 4 5 6 7 8; do sleep 1; done; exit 3"
        let child = try GuardedChild(
            ["/bin/sh", "-c", script].map { CText($0) },
            environment: ["PATH=/usr/bin:/bin", "D=\(self.directory.path)"].map { CText($0) },
            deadline: BootTime.now + 30_000_000_000
        )
        // Before that, TERM would end it.
        try await eventually { self.text("ready") == "ready" }
        child.stop(killAt: BootTime.now + 300_000_000)
        child.setDeadline(BootTime.now + 30_000_000_000)
        #expect(await child.end() == .signalled(SIGKILL))
        #expect(child.wasKilledAtDeadline)
    }

    @Test
    func `a revoke reaches the command though nobody reads what holdfast says`() async throws {
        let end = try await self.shell(
            """
            mkfifo $D/full && sleep 20 <> $D/full & reader=$!
            while [ ! -p $D/full ]; do :; done
            exec 9<>$D/full
            head -c 65536 /dev/zero >&9
            "$HOLDFAST" run x -- sh -c 'exec 2>/dev/null; trap "echo told > $D/told; exit 7" TERM; echo > $D/runs; while :; do sleep 0.01; done' 2>&9 &
            while [ ! -e $D/runs ]; do sleep 0.01; done
            "$HOLDFAST" revoke x > /dev/null
            wait $!; status=$?
            kill $reader
            exit $status
            """
        )
        #expect(end == .exited(7))
        #expect(self.text("told") == "told")
    }

    @Test
    func `a reader of stderr that is gone does not cost the command its life`() async throws {
        let end = try await self.shell(
            """
            ("$HOLDFAST" run x -- sh -c 'exec 2>/dev/null; trap "echo told > $D/told; exit 7" TERM; echo > $D/runs; while :; do sleep 0.01; done'
             echo $? > $D/status) 2>&1 | true &
            while [ ! -e $D/runs ]; do sleep 0.01; done
            "$HOLDFAST" revoke x > /dev/null
            while [ ! -s $D/status ]; do sleep 0.01; done
            """
        )
        #expect(end == .exited(0))
        #expect(self.text("status") == "7")
        #expect(self.text("told") == "told")
    }

    @Test
    func `with standard descriptors closed, what holdfast says does not become a signal`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run x -- sh -c 'exec 2>/dev/null; trap "exit 7" TERM; echo > $D/runs; while :; do sleep 0.01; done' <&- >&- 2>&- &
            while [ ! -e $D/runs ]; do sleep 0.01; done
            "$HOLDFAST" revoke x > /dev/null
            wait $!
            """
        )
        #expect(end == .exited(7))
    }

    @Test
    func `the command gets its arguments and its environment byte by byte`() async throws {
        let end = try await self.shell(
            """
            BAD=$(printf 'a\\377b'); export BAD
            "$HOLDFAST" run x -- sh -c 'printf %s "$1" > $D/argument; printf %s "$BAD" > $D/variable' sh "$BAD"
            printf %s "$BAD" | cmp - $D/argument && printf %s "$BAD" | cmp - $D/variable
            """
        )
        #expect(end == .exited(0))
        #expect(try await self.shell("\"$HOLDFAST\" run $(printf 'x\\377') -- true 2>/dev/null") == .exited(64))
    }

    @Test
    func `a command that is stopped and continued alone keeps its lock`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run --lease 3s x -- sh -c 'echo $$ > $D/pid; sleep 6; exit 9' &
            while [ ! -s $D/pid ]; do sleep 0.01; done
            kill -STOP $(cat $D/pid); sleep 4; kill -CONT $(cat $D/pid)
            wait $!
            """
        )
        #expect(end == .exited(9))
    }

    @Test
    func `when the write-ahead log is taken away, the holder hears that it lost`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run --lease 1s x -- sh -c 'echo > $D/runs; exec sleep 20' 2> /dev/null & holder=$!
            while [ ! -e $D/runs ]; do sleep 0.01; done
            rm $D/locks.db-wal $D/locks.db-shm
            "$HOLDFAST" run --wait 0 x -- sleep 2 2> /dev/null; second=$?
            # Either the lock was in the file itself by then, or its holder was told.
            [ $second = 75 ] && kill $holder && exit 0
            wait $holder; [ $? = 76 ]
            """
        )
        #expect(end == .exited(0))
    }

    @Test
    func `a member of the group whose parent left it does not outlive the lock`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run x -- sh -c '
              (sh -c "echo \\$\\$ > $D/pid; exec sleep 30" & exec setsid sh -c "echo > $D/left; exec sleep 0.3") &
              while [ ! -s $D/pid ] || [ ! -e $D/left ]; do sleep 0.01; done'
            [ -s $D/pid ] && ! kill -0 $(cat $D/pid) 2> /dev/null
            """
        )
        #expect(end == .exited(0))
    }

    /// Whether this process may make time namespaces.
    private static var hasTimeNamespaces: Bool {
        get async {
            guard
                let child = try? GuardedChild(
                    ["/usr/bin/unshare", "-T", "--boottime", "1000", "-f", "true"].map { CText($0) },
                    environment: []
                )
            else { return false }
            return await child.end().status == 0
        }
    }

    @Test(.enabled("it takes the right to make time namespaces") { await Self.hasTimeNamespaces })
    func `a process of another time namespace is not taken for dead`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run x -- sh -c 'echo > $D/runs; exec sleep 20' & holder=$!
            while [ ! -e $D/runs ]; do sleep 0.01; done
            unshare -T --boottime 1000 -f "$HOLDFAST" run --wait 0 x -- true 2> /dev/null; second=$?
            kill $holder; [ $second = 75 ]
            """
        )
        #expect(end == .exited(0))
    }

    @Test
    func `a grant is written into what is no regular file, and never put in its place`() async throws {
        let end = try await self.shell(
            """
            mkfifo $D/pipe; touch $D/target; chmod 600 $D/target; ln -s $D/target $D/link
            cat $D/pipe > $D/read & "$HOLDFAST" acquire x --grant $D/pipe && wait $! && [ -p $D/pipe ] || exit 1
            chmod 600 $D/read; "$HOLDFAST" release --grant $D/read || exit 2
            "$HOLDFAST" acquire x --grant $D/link && [ -L $D/link ] && [ -s $D/target ] || exit 3
            "$HOLDFAST" release --grant $D/link && [ -L $D/link ] || exit 4
            """
        )
        #expect(end == .exited(0))
    }

    @Test
    func `a grant that another store does not know stays in its file`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" acquire x --grant $D/grant || exit 1
            "$HOLDFAST" release --grant $D/grant --store sqlite:$D/other.db 2> $D/said; [ $? = 76 ] || exit 2
            grep -q other.db $D/said || exit 3
            "$HOLDFAST" release --grant $D/grant && [ ! -e $D/grant ] || exit 4
            """
        )
        #expect(end == .exited(0))
    }

    @Test
    func `a wrong command line is one line that says what to do`() async throws {
        let end = try await self.shell(
            """
            "$HOLDFAST" run x ls -l 2> $D/said; [ $? = 64 ] || exit 1
            [ $(wc -l < $D/said) = 1 ] && grep -q '^holdfast: .*-- COMMAND' $D/said || exit 2
            "$HOLDFAST" frob 2> $D/said; [ $? = 64 ] && [ $(wc -l < $D/said) = 1 ] || exit 3
            "$HOLDFAST" acquire x --store memory: 2> /dev/null; [ $? = 78 ] || exit 4
            """
        )
        #expect(end == .exited(0))
    }

    @Test
    func `the demo works where there is nothing to index`() async throws {
        let end = try await self.shell(
            """
            mkdir $D/empty; "$HOLDFAST" demo --seconds 15 --directory $D/empty > $D/said 2>&1 || exit 1
            "$HOLDFAST" demo --directory $D/none 2> /dev/null; [ $? = 78 ] || exit 2
            """
        )
        #expect(end == .exited(0), "\(self.text("said"))")
    }
}
