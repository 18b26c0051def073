// SPDX-License-Identifier: Apache-2.0
#include <lzma.h>

// The flag for several streams in one file is a macro that Swift cannot see.
static inline lzma_ret holdfast_lzma_init(lzma_stream *stream, uint64_t memory_limit) {
    return lzma_stream_decoder(stream, memory_limit, LZMA_CONCATENATED);
}
