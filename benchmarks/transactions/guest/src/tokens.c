/* How often each word of a text occurs: a hash table with open addressing, words in lower case by their hash. */

#include "kernels.h"

enum { SLOTS = 1024 };    /* a power of two, well above the number of words */

typedef struct {
  uint32_t hash;          /* FNV-1a of the word in lower case; 0: the slot is free */
  uint16_t at;            /* where the word was first */
  uint16_t bytes;
  uint32_t count;
} token_t;

static token_t tokens[SLOTS];

static bool in_word(uint8_t byte)
{
  return (byte | 0x20) - 'a' < 26u || byte - '0' < 10u || byte >= 0x80;
}

static void count_word(uint32_t hash, size_t at, size_t bytes, uint32_t *distinct)
{
  size_t slot = hash % SLOTS;
  while (tokens[slot].hash != 0 && tokens[slot].hash != hash) slot = (slot + 1) % SLOTS;
  if (tokens[slot].hash == 0) {
    tokens[slot] = (token_t){ hash, (uint16_t)at, (uint16_t)bytes, 0 };
    ++*distinct;
  }
  tokens[slot].count++;
}

spin_bytes_t token_count(const uint8_t *text, size_t length, uint32_t *count)
{
  uint32_t distinct = 0;
  memset(tokens, 0, sizeof tokens);
  for (size_t at = 0; at < length && distinct < SLOTS - 1;) {
    if (!in_word(text[at])) {
      at++;
      continue;
    }
    size_t start = at;
    uint32_t hash = 2166136261u;
    for (; at < length && in_word(text[at]); at++) {
      uint8_t byte = text[at];
      if (byte >= 'A' && byte <= 'Z') byte |= 0x20;
      hash = (hash ^ byte) * 16777619u;
    }
    count_word(hash | 1, start, at - start, &distinct);
  }
  *count = distinct;
  return (spin_bytes_t){ (uint8_t *)tokens, sizeof tokens };
}
