// SPDX-License-Identifier: Apache-2.0
//
// The guard process. It was forked from a process with threads and never calls exec, so everything here is on the list of
// async-signal-safe functions or a plain system call: no allocation, no stdio, no locks.
#define _GNU_SOURCE
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/// How long what is left of the group after its leader ended has to go on TERM before KILL.
static const int64_t leftover_grace = 100 * 1000 * 1000;
/// How often to look at the deadline while exec is under way, in milliseconds.
static const int exec_look = 20;

struct guard {
    struct hf_shared *shared;
    int control, signals, timer;
    pid_t child, home_group;
    int terminal;            // whether to pass the terminal on
    int stopped;             // the leader is stopped
    int killing;             // KILL was sent
    int ended;               // the leader was reaped
    int64_t leftovers_until; // after the leader's end: when to KILL what is left
    struct hf_message last;  // the leader's end, told once the group is empty
};

static void tell(const struct guard *guard, int kind, int value) {
    struct hf_message message = {kind, value};
    while (send(guard->control, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR) {}
}

/// Gives the terminal to a group if the one that has it now is `from`. SIGTTOU is blocked here, so this never stops us.
static void pass_terminal(const struct guard *guard, pid_t from, pid_t to) {
    if (guard->terminal && tcgetpgrp(STDIN_FILENO) == from) tcsetpgrp(STDIN_FILENO, to);
}

static void kill_group(struct guard *guard, int number) {
    if (number == SIGKILL) guard->killing = 1;
    kill(-guard->child, number);
}

static void restore_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, hf_inherited.known ? &hf_inherited.child : &standard, NULL);
    if (hf_inherited.known) sigaction(SIGPIPE, &hf_inherited.pipe, NULL);
    // Ignored signals stay ignored, as the user wished. exec would undo our handlers, but one could still run before it.
    for (size_t i = 0; i < HF_HANDLED_COUNT; i++) {
        struct sigaction now;
        if (sigaction(hf_handled[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN) {
            sigaction(hf_handled[i], &standard, NULL);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, hf_inherited.known ? &hf_inherited.mask : &none, NULL);
}

static _Noreturn void become_command(const struct hf_plan *plan, pid_t guard, int report) {
    setpgid(0, 0);
    if (plan->terminal && tcgetpgrp(STDIN_FILENO) == plan->home_group) tcsetpgrp(STDIN_FILENO, getpid());
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != guard) _exit(127);
    if (plan->output >= 0) dup2(plan->output, STDOUT_FILENO);
    restore_signals();
    execvpe(plan->argv[0], plan->argv, plan->environment);
    int problem = errno;
    ssize_t ignored = write(report, &problem, sizeof problem);
    (void)ignored;
    _exit(127);
}

/// Starts the command. Returns 0, or the errno of exec.
static int start(struct guard *guard, const struct hf_plan *plan) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return errno;
    pid_t self = getpid();
    guard->child = fork();
    if (guard->child < 0) return errno;
    if (guard->child == 0) become_command(plan, self, report[1]);
    setpgid(guard->child, guard->child);
    pass_terminal(guard, guard->home_group, guard->child);
    close(report[1]);
    int problem = 0;
    ssize_t count;
    // exec may hang on a file system that does not answer: the deadline and the end of holdfast hold meanwhile, too.
    struct pollfd waits[2] = {{report[0], POLLIN, 0}, {guard->control, 0, 0}};
    while (poll(waits, 2, exec_look) >= 0 || errno == EINTR) {
        if (waits[0].revents) break;
        int is_over = hf_boot_time() >= atomic_load(&guard->shared->deadline);
        if (is_over || (waits[1].revents & (POLLHUP | POLLERR))) kill(guard->child, SIGKILL);
    }
    do count = read(report[0], &problem, sizeof problem);
    while (count < 0 && errno == EINTR);
    close(report[0]);
    if (count == sizeof problem) {
        waitpid(guard->child, NULL, 0);
        return problem;
    }
    return 0;
}

/// Closes everything that is not the guard's: the store's connections must end with holdfast, not with us.
static void keep_only(struct guard *guard) {
    int kept[3] = {guard->control, guard->signals, guard->timer};
    for (int i = 0; i < 3; i++) kept[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 16);
    for (int i = 0; i < 3; i++) dup3(kept[i], 3 + i, O_CLOEXEC);
    guard->control = 3;
    guard->signals = 4;
    guard->timer = 5;
    if (syscall(SYS_close_range, 6u, ~0u, 0u) != 0) {
        for (int descriptor = 6; descriptor < 65536; descriptor++) close(descriptor);
    }
}

static void arm(const struct guard *guard) {
    int64_t at = atomic_load(&guard->shared->deadline);
    if (guard->leftovers_until != 0 && guard->leftovers_until < at) at = guard->leftovers_until;
    // Once KILL is sent, look again soon, for members that were being forked meanwhile.
    if (guard->killing) at = hf_boot_time() + 20 * 1000 * 1000;
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (at != INT64_MAX) {
        if (at < 1) at = 1;
        when.it_value.tv_sec = at / 1000000000;
        when.it_value.tv_nsec = at % 1000000000;
    }
    timerfd_settime(guard->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void note_end(struct guard *guard, int status) {
    guard->ended = 1;
    guard->last = WIFSIGNALED(status) ? (struct hf_message){HF_CHILD_SIGNALED, WTERMSIG(status)}
                                      : (struct hf_message){HF_CHILD_EXITED, WEXITSTATUS(status)};
}

/// Reaps what ended. Returns 1 when the group is empty. We are the reaper of its orphans, so while anything of the group
/// lives, waitpid() knows it and the group's number is not given to others.
static int reap(struct guard *guard) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
        if (pid != guard->child) continue;
        if (WIFSTOPPED(status)) {
            guard->stopped = 1;
            pass_terminal(guard, guard->child, guard->home_group);
            tell(guard, HF_CHILD_STOPPED, WSTOPSIG(status));
        } else if (WIFCONTINUED(status)) {
            // Somebody continued the command alone: holdfast, which stopped with it, has to go on renewing.
            if (guard->stopped) kill(getppid(), SIGCONT);
            guard->stopped = 0;
        } else {
            note_end(guard, status);
        }
    }
    if (!guard->ended) return 0;
    siginfo_t info;
    // A member whose parent left the group is nobody's child here and still to be ended.
    if (waitid(P_PGID, (id_t)guard->child, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD &&
        kill(-guard->child, 0) != 0)
        return 1;
    if (guard->leftovers_until == 0) {
        guard->leftovers_until = hf_boot_time() + leftover_grace;
        kill_group(guard, SIGTERM);
        kill_group(guard, SIGCONT);
    }
    return 0;
}

static void check_deadline(struct guard *guard) {
    int64_t now = hf_boot_time();
    if (now >= atomic_load(&guard->shared->deadline)) {
        if (!guard->killing) tell(guard, HF_CHILD_DEADLINE, 0);
        kill_group(guard, SIGKILL);
    } else if (guard->killing || (guard->leftovers_until != 0 && now >= guard->leftovers_until)) {
        kill_group(guard, SIGKILL);
    }
}

/// Does what holdfast asks. Returns 0 when holdfast is gone.
static int obey(struct guard *guard) {
    struct hf_message message;
    ssize_t count = recv(guard->control, &message, sizeof message, 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return 1;
    if (count != sizeof message) return 0;
    if (message.value == SIGCONT) pass_terminal(guard, guard->home_group, guard->child);
    kill_group(guard, message.value);
    return 1;
}

static void loop(struct guard *guard) {
    struct pollfd waits[3] = {{guard->control, POLLIN, 0}, {guard->signals, POLLIN, 0}, {guard->timer, POLLIN, 0}};
    char scratch[sizeof(struct signalfd_siginfo)];
    for (;;) {
        arm(guard);
        if (poll(waits, 3, -1) < 0 && errno != EINTR) kill_group(guard, SIGKILL);
        ssize_t ignored = 0;
        if (waits[1].revents) ignored = read(guard->signals, scratch, sizeof scratch);
        if (waits[2].revents) ignored = read(guard->timer, scratch, sizeof(uint64_t));
        (void)ignored;
        if (waits[0].revents && !obey(guard)) {
            // holdfast is gone and the lock with it: nobody is left to tell, only to kill.
            kill_group(guard, SIGKILL);
            waits[0].fd = -1;
        }
        check_deadline(guard);
        if (reap(guard)) return;
    }
}

_Noreturn void hf_guard_main(const struct hf_plan *plan, struct hf_shared *shared, int control) {
    struct guard guard = {.shared = shared, .control = control, .terminal = plan->terminal, .home_group = plan->home_group};
    // All signals are blocked here since before the fork. A group of its own: what is sent to holdfast's group does not hit the guard.
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    // Whoever kills holdfast by its command line must not hit the guard as well: it is there for that moment.
    prctl(PR_SET_NAME, "hf-guard");
    hf_rename_process("hf-guard");
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    guard.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    guard.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int problem = guard.signals < 0 || guard.timer < 0 ? errno : start(&guard, plan);
    if (problem != 0) {
        tell(&guard, HF_CHILD_EXEC_FAILED, problem);
        _exit(0);
    }
    keep_only(&guard);
    tell(&guard, HF_CHILD_STARTED, guard.child);
    loop(&guard);
    pass_terminal(&guard, guard.child, guard.home_group);
    tell(&guard, guard.last.kind, guard.last.value);
    _exit(0);
}
