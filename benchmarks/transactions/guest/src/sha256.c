/* SHA-256 (FIPS 180-4). */

#include "kernels.h"

enum { BLOCK = 64, ROUNDS = 64, DIGEST = 32 };

static const uint32_t constants[ROUNDS] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t state[8];
static uint8_t digest[DIGEST];

static uint32_t turned(uint32_t word, uint32_t by)
{
  return word >> by | word << (32 - by);
}

static uint32_t word_at(const uint8_t *bytes)
{
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void absorb(const uint8_t *block)
{
  uint32_t w[ROUNDS], v[8];
  for (size_t t = 0; t < 16; t++) w[t] = word_at(block + 4 * t);
  for (size_t t = 16; t < ROUNDS; t++) {
    uint32_t s0 = turned(w[t - 15], 7) ^ turned(w[t - 15], 18) ^ w[t - 15] >> 3;
    uint32_t s1 = turned(w[t - 2], 17) ^ turned(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  for (size_t i = 0; i < 8; i++) v[i] = state[i];
  for (size_t t = 0; t < ROUNDS; t++) {
    uint32_t s1 = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25);
    uint32_t one = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[t] + w[t];
    uint32_t s0 = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
    uint32_t two = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + one;
    v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = one + two;
  }
  for (size_t i = 0; i < 8; i++) state[i] += v[i];
}

static void absorb_last(const uint8_t *rest, size_t count, uint64_t length)
{
  uint8_t block[2 * BLOCK] = { 0 };
  size_t size = count < BLOCK - 8 ? BLOCK : 2 * BLOCK;
  for (size_t i = 0; i < count; i++) block[i] = rest[i];
  block[count] = 0x80;
  for (size_t i = 0; i < 8; i++) block[size - 1 - i] = (uint8_t)(length * 8 >> 8 * i);
  for (size_t at = 0; at < size; at += BLOCK) absorb(block + at);
}

spin_bytes_t sha256(const uint8_t *text, size_t length)
{
  static const uint32_t first[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  };
  size_t at = 0;
  for (size_t i = 0; i < 8; i++) state[i] = first[i];
  for (; at + BLOCK <= length; at += BLOCK) absorb(text + at);
  absorb_last(text + at, length - at, length);
  for (size_t i = 0; i < DIGEST; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
  return (spin_bytes_t){ digest, DIGEST };
}
