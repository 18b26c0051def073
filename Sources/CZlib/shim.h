// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

// What inflateInit2 is, being a macro: 32 has zlib tell gzip's header from its own.
static inline int holdfast_inflate_init(z_streamp stream) { return inflateInit2(stream, 15 + 32); }
