// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct hf_inherited hf_inherited;

const int hf_handled[HF_HANDLED_COUNT] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
static int channel[2] = {-1, -1};
static hf_signal_callback signal_callback;
static void *signal_context;

/// Passes the signal's number to the thread that waits for it. Blocking the signals in all threads would be simpler, but
/// the main thread of an asynchronous Swift program sleeps in sigsuspend() with all signals let through.
static void note(int number) {
    int before = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t ignored = write(channel[1], &byte, 1);
    (void)ignored;
    errno = before;
}

static char **own_arguments;
static size_t own_arguments_size;

/// glibc hands main's arguments to constructors, too.
__attribute__((constructor)) static void find_arguments(int count, char **arguments) {
    if (count < 1 || arguments == NULL) return;
    own_arguments = arguments;
    char *last = arguments[count - 1];
    own_arguments_size = (size_t)(last + strlen(last) - arguments[0]);
}

void hf_rename_process(const char *name) {
    if (own_arguments == NULL) return;
    memset(own_arguments[0], 0, own_arguments_size);
    strncpy(own_arguments[0], name, own_arguments_size);
}

void hf_signals_prepare(void) {
    // A descriptor that was closed at the start must not be given to a socket or a pipe of ours: what is said on stderr
    // would go there.
    int spare;
    while ((spare = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && spare <= STDERR_FILENO) {}
    if (spare >= 0) close(spare);
    sigprocmask(SIG_SETMASK, NULL, &hf_inherited.mask);
    sigaction(SIGPIPE, NULL, &hf_inherited.pipe);
    sigaction(SIGCHLD, NULL, &hf_inherited.child);
    hf_inherited.known = 1;
    // waitpid() answers nothing while SIGCHLD is ignored.
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &standard, NULL);
    // A reader that is gone must not cost the command its life.
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignored, NULL);
}

static void *wait_for_signals(void *unused) {
    (void)unused;
    unsigned char number;
    for (;;) {
        if (read(channel[0], &number, 1) == 1) signal_callback(number, signal_context);
    }
    return NULL;
}

int hf_signals_start(hf_signal_callback callback, void *context) {
    signal_callback = callback;
    signal_context = context;
    if (pipe2(channel, O_CLOEXEC) != 0) return errno;
    // A handler must not wait: when the pipe is full, thousands of signals are under way already.
    fcntl(channel[1], F_SETFL, O_NONBLOCK);
    pthread_t thread;
    int problem = pthread_create(&thread, NULL, wait_for_signals, NULL);
    if (problem != 0) return problem;
    pthread_detach(thread);
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < HF_HANDLED_COUNT; i++) {
        struct sigaction before;
        // What somebody chose to ignore (nohup, a background job of a script) stays ignored, for the child too.
        if (sigaction(hf_handled[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            sigaction(hf_handled[i], &action, NULL);
        }
    }
    return 0;
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

void hf_stop_self(void) {
    if (isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp()) kill(getpid(), SIGSTOP);
}

int64_t hf_boot_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t nanoseconds(struct timeval time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_usec * 1000; }

int64_t hf_cpu_time(void) {
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    return nanoseconds(own.ru_utime) + nanoseconds(own.ru_stime);
}

char *const *hf_environment(void) { return environ; }
