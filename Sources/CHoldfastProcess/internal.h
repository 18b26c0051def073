// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "CHoldfastProcess.h"
#include <stdatomic.h>

/// How holdfast found its signals: what its children get back.
struct hf_inherited {
    int known;
    sigset_t mask;
    struct sigaction pipe;
    struct sigaction child;
};
extern struct hf_inherited hf_inherited;
/// Shows another command line in `ps`, and to `pkill -f`, from now on. Async-signal-safe.
void hf_rename_process(const char *name);

enum { HF_HANDLED_COUNT = 8 };
/// The signals that holdfast takes.
extern const int hf_handled[HF_HANDLED_COUNT];

/// From the guard to holdfast (an event) or back (a signal to send).
struct hf_message {
    int32_t kind;
    int32_t value;
};

/// In memory that holdfast and the guard share.
struct hf_shared {
    _Atomic int64_t deadline;
};

struct hf_plan {
    char *const *argv;
    char *const *environment;
    int output;
    int terminal;
    pid_t home_group;  // holdfast's own process group, which gets the terminal back
};

/// The guard's whole life. Calls only what is safe after a fork of a process with threads.
_Noreturn void hf_guard_main(const struct hf_plan *plan, struct hf_shared *shared, int control);
