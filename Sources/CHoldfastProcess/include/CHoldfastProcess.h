// SPDX-License-Identifier: Apache-2.0
//
// Process control for the `holdfast` command: signals, and a child under guard.
//
// The child of `holdfast run` must not outlive the lock. It therefore gets a guard: a process of its own, forked without
// exec, that is the child's parent and runs nothing but the loop in guard.c. The guard kills the child's process group
//   - when holdfast dies, however it dies: the guard's socket then reads as closed;
//   - when the deadline in shared memory passes, even if holdfast is stopped or stuck by then;
//   - when holdfast asks for it.
// If the guard itself is killed, the kernel kills the child (PR_SET_PDEATHSIG) and holdfast kills the rest of the group.
// Not covered: processes that leave the group (setsid, daemons), holdfast and guard killed in one instant (the child dies
// then too, its own children live), and a child that changes its user id (the kernel clears PDEATHSIG).
#pragma once
#include <signal.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

/// What is said about a child, in order: one `started` or `execFailed`, any number of `stopped`, one `ended`.
enum hf_child_event {
    HF_CHILD_STARTED = 1,    ///< value: the pid, which is also the process group
    HF_CHILD_EXEC_FAILED,    ///< value: errno of exec; the last event
    HF_CHILD_STOPPED,        ///< value: the signal that stopped it
    HF_CHILD_EXITED,         ///< value: the exit code; the last event
    HF_CHILD_SIGNALED,       ///< value: the signal that ended it; the last event
    HF_CHILD_DEADLINE,       ///< the guard killed the group since the deadline passed; the end follows
    HF_CHILD_GUARD_LOST,     ///< the guard was killed; the group was killed too; the last event
};

typedef void (*hf_signal_callback)(int signal, void *context);
typedef void (*hf_child_callback)(int event, int value, void *context);

/// Remembers how signals were found, for children. Call first in main.
void hf_signals_prepare(void);
/// Takes the signals that holdfast handles: a thread of its own calls `callback` for each, for as long as the process
/// lives. Signals that were ignored stay ignored. Returns 0 or an errno.
int hf_signals_start(hf_signal_callback callback, void *context);
/// Ends the process by this signal, as if it had never been handled.
void hf_signals_die(int signal);

struct hf_child;
/// Starts a command under guard, in a process group of its own.
///
/// `argv` and `environment` end in NULL and are copied by the fork. `output` replaces the child's stdout unless it is -1.
/// With `terminal`, the child's group gets the terminal when holdfast has it. `deadline` is on CLOCK_BOOTTIME in
/// nanoseconds; INT64_MAX for none. `callback` is called on a thread of its own. Returns NULL and sets errno on failure.
struct hf_child *hf_child_start(char *const argv[], char *const environment[], int output, int terminal,
                                int64_t deadline, hf_child_callback callback, void *context);
/// Moves the deadline; one in the past kills the group now, by the guard or, if that is stopped, from here. Any thread.
void hf_child_set_deadline(struct hf_child *child, int64_t deadline);
/// Sends a signal to the child's group. SIGCONT also gives it the terminal again. Any thread.
void hf_child_signal(struct hf_child *child, int signal);
/// Frees the handle, after the last event was delivered.
void hf_child_free(struct hf_child *child);

/// Stops this process as job control would; returns when it is continued. Does nothing without a terminal whose
/// foreground this process is: nobody would continue it.
void hf_stop_self(void);
/// CLOCK_BOOTTIME in nanoseconds: the clock of all deadlines here.
int64_t hf_boot_time(void);
/// CPU time that this process has used so far, in nanoseconds.
int64_t hf_cpu_time(void);
/// The process' environment.
char *const *hf_environment(void);
