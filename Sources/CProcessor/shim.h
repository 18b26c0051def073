// SPDX-License-Identifier: Apache-2.0
// What <sched.h> declares only for GNU sources, which Swift's module of the C library is not.

#pragma once

/// The number of the processor that this thread runs on, or -1.
int sched_getcpu(void);
