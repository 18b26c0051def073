// SPDX-License-Identifier: Apache-2.0
//
// holdfast's side of a guarded child.
#define _GNU_SOURCE
#include "internal.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

struct hf_child {
    struct hf_shared *shared;
    int control;
    int wake;  // an eventfd: the deadline came nearer
    pid_t guard;
    _Atomic pid_t group;  // 0 before the command runs and after the last event
    hf_child_callback callback;
    void *context;
};

static int is_last(int kind) {
    return kind == HF_CHILD_EXITED || kind == HF_CHILD_SIGNALED || kind == HF_CHILD_EXEC_FAILED;
}

/// How long after the deadline the guard may still be at it before this process kills the group itself.
static const int64_t guard_grace = 50 * 1000 * 1000;

/// Waits for the guard to say something. When the deadline passes and it says nothing, it may be stopped: kill the group
/// from here. The group's number is still the child's then, since only the guard can reap its leader.
static void wait_for_guard(struct hf_child *child) {
    struct pollfd waits[2] = {{child->control, POLLIN, 0}, {child->wake, POLLIN, 0}};
    for (;;) {
        int64_t deadline = atomic_load(&child->shared->deadline);
        int timeout = -1;
        if (deadline != INT64_MAX) {
            int64_t left = (deadline + guard_grace - hf_boot_time()) / 1000000 + 1;
            timeout = left < 20 ? 20 : left > 60 * 1000 ? 60 * 1000 : (int)left;
        }
        if (poll(waits, 2, timeout) < 0 && errno != EINTR) return;
        if (waits[0].revents) return;
        uint64_t count;
        if (waits[1].revents && read(child->wake, &count, sizeof count) < 0) continue;
        deadline = atomic_load(&child->shared->deadline);
        pid_t group = atomic_load(&child->group);
        if (deadline != INT64_MAX && hf_boot_time() > deadline + guard_grace && group > 0) kill(-group, SIGKILL);
    }
}

static void *relay(void *argument) {
    struct hf_child *child = argument;
    struct hf_message message;
    struct hf_message last = {HF_CHILD_GUARD_LOST, SIGKILL};
    for (;;) {
        wait_for_guard(child);
        ssize_t count = recv(child->control, &message, sizeof message, 0);
        // A guard that ends before it has read all that it was sent resets the connection. That is told once, and before
        // what the guard had said, which is still there: its last word is how the command ended.
        if (count < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
        if (count != sizeof message) break;
        if (message.kind == HF_CHILD_STARTED) atomic_store(&child->group, message.value);
        if (is_last(message.kind)) {
            last = message;
            break;
        }
        child->callback(message.kind, message.value, child->context);
    }
    pid_t group = atomic_exchange(&child->group, 0);
    if (last.kind == HF_CHILD_GUARD_LOST && group > 0) kill(-group, SIGKILL);
    while (waitpid(child->guard, NULL, 0) < 0 && errno == EINTR) {}
    child->callback(last.kind, last.value, child->context);
    return NULL;
}

/// Forks the guard. Returns 0 or an errno.
static int fork_guard(struct hf_child *child, const struct hf_plan *plan) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno;
    child->control = pair[0];
    // The guard starts with all signals blocked: a handler of ours must not run in it.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child->guard = fork();
    if (child->guard == 0) {
        close(pair[0]);
        hf_guard_main(plan, child->shared, pair[1]);
    }
    int problem = child->guard < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pair[1]);
    if (problem != 0) close(pair[0]);
    return problem;
}

static void discard(struct hf_child *child) {
    if (child->wake >= 0) close(child->wake);
    if (child->shared != MAP_FAILED) munmap(child->shared, sizeof *child->shared);
    free(child);
}

struct hf_child *hf_child_start(char *const argv[], char *const environment[], int output, int terminal,
                                int64_t deadline, hf_child_callback callback, void *context) {
    struct hf_child *child = calloc(1, sizeof *child);
    if (child == NULL) return NULL;
    child->callback = callback;
    child->context = context;
    child->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    child->shared = mmap(NULL, sizeof *child->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (child->shared == MAP_FAILED || child->wake < 0) {
        discard(child);
        return NULL;
    }
    atomic_store(&child->shared->deadline, deadline);
    struct hf_plan plan = {argv, environment, output, 0, getpgrp()};
    plan.terminal = terminal && isatty(STDIN_FILENO);
    int problem = fork_guard(child, &plan);
    pthread_t thread;
    if (problem == 0 && (problem = pthread_create(&thread, NULL, relay, child)) != 0) {
        close(child->control);  // the guard kills what it started
        while (waitpid(child->guard, NULL, 0) < 0 && errno == EINTR) {}
    }
    if (problem != 0) {
        discard(child);
        errno = problem;
        return NULL;
    }
    pthread_detach(thread);
    return child;
}

void hf_child_set_deadline(struct hf_child *child, int64_t deadline) {
    if (atomic_exchange(&child->shared->deadline, deadline) <= deadline) return;
    uint64_t one = 1;
    ssize_t ignored = write(child->wake, &one, sizeof one);
    (void)ignored;
    hf_child_signal(child, 0);  // signal 0 does nothing but wake the guard, which then looks at the deadline
}

void hf_child_signal(struct hf_child *child, int number) {
    struct hf_message message = {0, number};
    send(child->control, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void hf_child_free(struct hf_child *child) {
    close(child->control);
    discard(child);
}
