/* What every callee does, whoever calls it and however: it answers the caller's number plus the checksum of the payload.
 * Without payload the checksum is 0, so that the callee does nothing. Included by the programs of this machine and by the
 * guest, which has no C library. */
#ifndef IPC_WORK_H
#define IPC_WORK_H

#include <stddef.h>
#include <stdint.h>

/* Fletcher's sums over words of 8 bytes, little-endian, modulo 2^64; `bytes` is a multiple of 8. */
static inline uint64_t checksum(const uint8_t *payload, size_t bytes)
{
  uint64_t sum = 0, sums = 0, word;
  for (size_t at = 0; at < bytes; at += sizeof word) {
    __builtin_memcpy(&word, payload + at, sizeof word);
    sum += word;
    sums += sum;
  }
  return sum + 3 * sums;
}

#endif
