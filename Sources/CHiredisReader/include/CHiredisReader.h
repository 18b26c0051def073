// SPDX-License-Identifier: Apache-2.0

// hiredis' reply reader behind five functions that mean the same with hiredis 0.14 and 1.x. The table of object
// functions, whose layout differs between the two, stays in the C file.

#pragma once

#include <stddef.h>

typedef enum holdfast_reader_kind {
    HOLDFAST_READER_STRING,
    HOLDFAST_READER_STATUS,
    HOLDFAST_READER_ERROR,
} holdfast_reader_kind;

// What the reader calls for each part of a reply, in order. The bytes are valid during the call only.
typedef struct holdfast_reader_callbacks {
    void (*on_string)(void *context, holdfast_reader_kind kind, const char *bytes, size_t length);
    void (*on_array)(void *context, long long count);
    void (*on_integer)(void *context, long long value);
    void (*on_null)(void *context);
} holdfast_reader_callbacks;

typedef enum holdfast_reader_result {
    HOLDFAST_READER_MORE,     // the reply is not complete yet
    HOLDFAST_READER_REPLY,    // one reply was given to the callbacks
    HOLDFAST_READER_PROTOCOL, // not RESP2; the reader is finished
    HOLDFAST_READER_LIMIT,    // a line or a string above its limit; the reader is finished
    HOLDFAST_READER_MEMORY,   // out of memory; the reader is finished
} holdfast_reader_result;

typedef struct holdfast_reader holdfast_reader;

// NULL when out of memory. Limits are in bytes.
holdfast_reader *holdfast_reader_create(
    holdfast_reader_callbacks callbacks, void *context, size_t line_limit, size_t string_limit);
void holdfast_reader_free(holdfast_reader *reader);

// Copies bytes into the reader; feed at most 16 KB at a time, since what is left is moved after each reply.
holdfast_reader_result holdfast_reader_feed(holdfast_reader *reader, const char *bytes, size_t length);

// Reads the next reply. Results after REPLY and MORE are final: drop the reader and its connection.
holdfast_reader_result holdfast_reader_next(holdfast_reader *reader);

// The version of hiredis that this was built with, as "0.14.1".
const char *holdfast_reader_version(void);
