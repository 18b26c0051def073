// SPDX-License-Identifier: Apache-2.0

#include "CHiredisReader.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

struct holdfast_reader {
    redisReader *reader;
    holdfast_reader_callbacks callbacks;
    void *context;
    size_t line_limit;
    size_t string_limit;
};

// The object functions must not return NULL, which means "out of memory"; the objects themselves are the callbacks'.
static char object;

static holdfast_reader *owner(const redisReadTask *task) { return task->privdata; }

static void *create_string(const redisReadTask *task, char *bytes, size_t length) {
    holdfast_reader *self = owner(task);
    holdfast_reader_kind kind = HOLDFAST_READER_STRING;
    if (task->type == REDIS_REPLY_STATUS) kind = HOLDFAST_READER_STATUS;
    if (task->type == REDIS_REPLY_ERROR) kind = HOLDFAST_READER_ERROR;
    self->callbacks.on_string(self->context, kind, bytes, length);
    return &object;
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t count) {
#else
static void *create_array(const redisReadTask *task, int count) {
#endif
    holdfast_reader *self = owner(task);
    self->callbacks.on_array(self->context, (long long)count);
    return &object;
}

static void *create_integer(const redisReadTask *task, long long value) {
    holdfast_reader *self = owner(task);
    self->callbacks.on_integer(self->context, value);
    return &object;
}

static void *create_nil(const redisReadTask *task) {
    holdfast_reader *self = owner(task);
    self->callbacks.on_null(self->context);
    return &object;
}

static void free_object(void *unused) { (void)unused; }

#if HIREDIS_MAJOR >= 1
// RESP3 is never asked for; should a server send it all the same, it comes out as text or a number.
static void *create_double(const redisReadTask *task, double value, char *bytes, size_t length) {
    (void)value;
    holdfast_reader *self = owner(task);
    self->callbacks.on_string(self->context, HOLDFAST_READER_STRING, bytes, length);
    return &object;
}

static void *create_bool(const redisReadTask *task, int value) {
    holdfast_reader *self = owner(task);
    self->callbacks.on_integer(self->context, value);
    return &object;
}
#endif

static redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
    .createNil = create_nil,
    .freeObject = free_object,
};

holdfast_reader *holdfast_reader_create(
    holdfast_reader_callbacks callbacks, void *context, size_t line_limit, size_t string_limit) {
    holdfast_reader *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->reader = redisReaderCreateWithFunctions(&functions);
    if (self->reader == NULL) {
        free(self);
        return NULL;
    }
    self->reader->privdata = self;
    self->callbacks = callbacks;
    self->context = context;
    self->line_limit = line_limit;
    self->string_limit = string_limit;
    return self;
}

void holdfast_reader_free(holdfast_reader *self) {
    if (self == NULL) return;
    redisReaderFree(self->reader);
    free(self);
}

static holdfast_reader_result failure(const holdfast_reader *self) {
    return self->reader->err == REDIS_ERR_OOM ? HOLDFAST_READER_MEMORY : HOLDFAST_READER_PROTOCOL;
}

holdfast_reader_result holdfast_reader_feed(holdfast_reader *self, const char *bytes, size_t length) {
    return redisReaderFeed(self->reader, bytes, length) == REDIS_OK ? HOLDFAST_READER_MORE : failure(self);
}

// hiredis has no limits of its own: it looks for the end of a line again with each feed (quadratic), and buffers a
// string of any length. Called when no complete item is buffered, so that what is buffered is one unfinished item.
static holdfast_reader_result check_limits(const holdfast_reader *self) {
    const redisReader *reader = self->reader;
    size_t buffered = reader->len - reader->pos;
    if (buffered == 0) return HOLDFAST_READER_MORE;
    const char *start = reader->buf + reader->pos;
    const char *end = memchr(start, '\n', buffered < 64 ? buffered : 64);
    if (end == NULL) return buffered > self->line_limit ? HOLDFAST_READER_LIMIT : HOLDFAST_READER_MORE;
    // A whole first line that did not complete the item: it is the length of a string. Anything else is a line with a
    // stray line feed in it, which must not count as the end.
    size_t announced = 0;
    const char *digit = start;
    for (; digit < end && *digit >= '0' && *digit <= '9'; digit++) {
        if (announced > SIZE_MAX / 10 - 10) return HOLDFAST_READER_LIMIT;
        announced = announced * 10 + (size_t)(*digit - '0');
    }
    if (digit == start || digit + 1 != end || *digit != '\r') {
        return buffered > self->line_limit ? HOLDFAST_READER_LIMIT : HOLDFAST_READER_MORE;
    }
    if (announced > self->string_limit || buffered > self->string_limit + 128) return HOLDFAST_READER_LIMIT;
    return HOLDFAST_READER_MORE;
}

holdfast_reader_result holdfast_reader_next(holdfast_reader *self) {
    void *reply = NULL;
    if (redisReaderGetReply(self->reader, &reply) != REDIS_OK) return failure(self);
    return reply != NULL ? HOLDFAST_READER_REPLY : check_limits(self);
}

#define HOLDFAST_TEXT_OF(number) #number
#define HOLDFAST_TEXT(number) HOLDFAST_TEXT_OF(number)

const char *holdfast_reader_version(void) {
    return HOLDFAST_TEXT(HIREDIS_MAJOR) "." HOLDFAST_TEXT(HIREDIS_MINOR) "." HOLDFAST_TEXT(HIREDIS_PATCH);
}
