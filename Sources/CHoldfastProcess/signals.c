// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "internal.h"
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct hf_inherited hf_inherited;

static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
static sigset_t waited;
static hf_signal_callback signal_callback;
static void *signal_context;

void hf_signals_prepare(void) {
    sigemptyset(&waited);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) {
        struct sigaction before;
        // What somebody chose to ignore (nohup, a background job of a script) stays ignored, for the child too.
        if (sigaction(handled[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) sigaddset(&waited, handled[i]);
    }
    sigaction(SIGPIPE, NULL, &hf_inherited.pipe);
    sigaction(SIGCHLD, NULL, &hf_inherited.child);
    sigprocmask(SIG_BLOCK, &waited, &hf_inherited.mask);
    hf_inherited.known = 1;
    // waitpid() answers nothing while SIGCHLD is ignored.
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &standard, NULL);
}

static void *wait_for_signals(void *unused) {
    (void)unused;
    for (;;) {
        int number = sigwaitinfo(&waited, NULL);
        if (number > 0) signal_callback(number, signal_context);
    }
    return NULL;
}

int hf_signals_start(hf_signal_callback callback, void *context) {
    signal_callback = callback;
    signal_context = context;
    pthread_t thread;
    int problem = pthread_create(&thread, NULL, wait_for_signals, NULL);
    if (problem == 0) pthread_detach(thread);
    return problem;
}

void hf_signals_die(int number) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(number, &standard, NULL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    kill(getpid(), number);
    _exit(128 + number);
}

void hf_stop_self(void) { kill(getpid(), SIGSTOP); }

int64_t hf_boot_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t nanoseconds(struct timeval time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_usec * 1000; }

int64_t hf_cpu_time(void) {
    struct rusage own, children;
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    return nanoseconds(own.ru_utime) + nanoseconds(own.ru_stime) + nanoseconds(children.ru_utime)
        + nanoseconds(children.ru_stime);
}

char *const *hf_environment(void) { return environ; }
