/* The numbered stream that push sends and join checks.
 *
 * Promises: a datagram's first 8 bytes are its number, big-endian, from 0 on;
 * the rest is filling. Is not a protocol: nothing is answered or repeated.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdint.h>
#include <time.h>

#define STREAM_NUMBER_SIZE 8
#define STREAM_LARGEST 65507

static inline void stream_put(unsigned char *to, uint64_t number) {
    for (int i = 0; i < STREAM_NUMBER_SIZE; i++)
        to[i] = (unsigned char)(number >> (56 - 8 * i));
}

static inline uint64_t stream_get(const unsigned char *from) {
    uint64_t number = 0;
    for (int i = 0; i < STREAM_NUMBER_SIZE; i++)
        number = number << 8 | from[i];
    return number;
}

/* Nanoseconds of a clock that never steps. */
static inline int64_t stream_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
