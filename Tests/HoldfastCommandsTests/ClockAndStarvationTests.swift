// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// Rows H3 and H5 of the fault matrix: processes without enough CPU time, and with a wall clock that jumps.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct ClockAndStarvationTests {
    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    /// Answers questions for the wall clock an hour late and an hour early, in turns of 0.4 s; other clocks are true.
    private static let jumpingClock = """
        #define _GNU_SOURCE
        #include <sys/syscall.h>
        #include <sys/time.h>
        #include <time.h>
        #include <unistd.h>
        static long shift(void) {
            struct timespec now;
            syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
            return (now.tv_sec * 10 + now.tv_nsec / 100000000) / 4 % 2 ? 3600 : -3600;
        }
        int clock_gettime(clockid_t clock, struct timespec *time) {
            int result = syscall(SYS_clock_gettime, clock, time);
            if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += shift();
            return result;
        }
        int gettimeofday(struct timeval *time, void *zone) {
            struct timespec now;
            (void)zone;
            clock_gettime(CLOCK_REALTIME, &now);
            time->tv_sec = now.tv_sec;
            time->tv_usec = now.tv_nsec / 1000;
            return 0;
        }
        time_t time(time_t *result) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            if (result) *result = now.tv_sec;
            return now.tv_sec;
        }
        """

    /// Runs a script in which `$HOLDFAST` is the program.
    private func shell(_ script: String, store: String) async throws -> GuardedChild.End {
        let environment = [
            "PATH=\(Environment.process["PATH"] ?? "/usr/bin:/bin")", "HOME=\(self.directory.path)",
            "HOLDFAST=\(HoldfastProcess.program)", "HOLDFAST_STORE=\(store)", "D=\(self.directory.path)",
        ]
        return await
            (try GuardedChild(
                ["/bin/sh", "-c", script].map { CText($0) },
                environment: environment.map { CText($0) },
                deadline: BootTime.now + 60_000_000_000
            )).end()
    }

    private func onEachStore(_ check: (String) async throws -> Void) async throws {
        try await check("sqlite:\(self.directory.path)/locks.db")
        let server = try await RedisServer()
        try await check(server.url)
        withExtendedLifetime(server) {}
    }

    @Test
    func `H5 a wall clock that jumps by an hour changes no lease and no timeout`() async throws {
        try self.directory.write(Self.jumpingClock, to: "clock.c")
        try await self.onEachStore { store in
            let end = try await self.shell(
                """
                cd $D && clang -shared -fPIC -O -o clock.so clock.c 2>said || cc -shared -fPIC -O -o clock.so clock.c || exit 1
                hf() { LD_PRELOAD=$D/clock.so sh -c 'exec "$HOLDFAST" "$@"' sh "$@"; }
                LD_PRELOAD=$D/clock.so sh -c 'echo $(date +%s)' > jumped
                [ $(( $(cat jumped) - $(date +%s) )) -gt 3000 ] || [ $(( $(cat jumped) - $(date +%s) )) -lt -3000 ] || exit 2
                rm -f runs; hf run --lease 4s x -- sh -c 'echo > runs; sleep 14; exit 9' & holder=$!
                while [ ! -e runs ]; do sleep 0.01; done
                before=$(cut -d' ' -f1 /proc/uptime)
                hf run --wait 6s x -- true 2>said; [ $? = 75 ] || exit 3
                after=$(cut -d' ' -f1 /proc/uptime)
                awk "BEGIN { exit !($after - $before > 5.9 && $after - $before < 30) }" || exit 4
                wait $holder; [ $? = 9 ] || exit 5
                hf run --wait 0 x -- true || exit 6
                """,
                store: store
            )
            #expect(end == .exited(0), "\(store.prefix(6)): \(self.directory.text("said"))")
        }
    }

    @Test
    func `H3 processes that hardly get the CPU never hold a lock at once`() async throws {
        try await self.onEachStore { store in
            let end = try await self.shell(
                """
                for hog in $(seq $(( $(nproc) * 2 ))); do nice -n 19 sh -c 'while :; do :; done' & hogs="$hogs $!"; done
                # Of the idle class: what little the hogs leave.
                chrt --idle 0 "$HOLDFAST" bench --workload cont16 --processes 2 --seconds 3 > $D/bench; status=$?
                kill $hogs
                [ $status = 0 ] && grep -q '"overlaps":0' $D/bench
                """,
                store: store
            )
            #expect(end == .exited(0), "\(self.directory.text("bench"))")
        }
    }
}
