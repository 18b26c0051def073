// SPDX-License-Identifier: Apache-2.0
//
// Counts what each thread allocates, for `holdfast bench` with a workload of the cache:
//
//   cc -O2 -shared -fPIC -o allocations.so Benchmarks/allocations.c
//   LD_PRELOAD=./allocations.so holdfast bench --workload read100 --threads 2
//
// The program finds the counter by its name and prints allocations_per_op.

#include <stddef.h>
#include <stdint.h>

// glibc's own, under the names by which whoever replaces malloc calls them.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static __thread uint64_t count __attribute__((tls_model("initial-exec")));

// How often the calling thread has asked for memory since it began.
uint64_t hf_allocations(void) { return count; }

void *malloc(size_t size) {
  count++;
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  count++;
  return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
  count++;
  return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count++;
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  count++;
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : 12;
}
