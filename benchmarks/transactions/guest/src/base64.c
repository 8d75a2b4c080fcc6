/* Base64 as mail has it (RFC 2045, 6.8): what is not of the alphabet is skipped, padding ends it. */

#include "kernels.h"

enum { SKIP = 0xFF, PAD = 0xFE };

static uint8_t decoded[INPUT_BYTES];
static uint8_t digits[256];

static uint8_t digit(uint8_t byte)
{
  if (byte >= 'A' && byte <= 'Z') return byte - 'A';
  if (byte >= 'a' && byte <= 'z') return byte - 'a' + 26;
  if (byte >= '0' && byte <= '9') return byte - '0' + 52;
  return byte == '+' ? 62 : byte == '/' ? 63 : byte == '=' ? PAD : SKIP;
}

/* Groups of four digits that stand together: most of a text. Returns how many octets it wrote; moves `*at`. */
static size_t decode_groups(const uint8_t *text, size_t length, size_t *at, uint8_t *out)
{
  size_t written = 0;
  for (; *at + 4 <= length; *at += 4, written += 3) {
    const uint8_t *group = text + *at;
    uint32_t a = digits[group[0]], b = digits[group[1]], c = digits[group[2]], d = digits[group[3]];
    if ((a | b | c | d) >= PAD) break;
    out[written] = (uint8_t)(a << 2 | b >> 4);
    out[written + 1] = (uint8_t)(b << 4 | c >> 2);
    out[written + 2] = (uint8_t)(c << 6 | d);
  }
  return written;
}

spin_bytes_t base64_decode(const uint8_t *text, size_t length)
{
  size_t at = 0, out = 0;
  uint32_t bits = 0, held = 0;
  if (digits[255] != SKIP)  /* the first call makes the table */
    for (uint32_t byte = 0; byte < 256; byte++) digits[byte] = digit((uint8_t)byte);
  while (at < length) {
    if (held == 0) out += decode_groups(text, length, &at, decoded + out);
    if (at == length) break;
    uint32_t value = digits[text[at++]];
    if (value == PAD) break;
    if (value == SKIP) continue;
    bits = bits << 6 | value;
    if (++held < 4) continue;
    decoded[out++] = (uint8_t)(bits >> 16);
    decoded[out++] = (uint8_t)(bits >> 8);
    decoded[out++] = (uint8_t)bits;
    held = 0;
  }
  if (held > 1) decoded[out++] = (uint8_t)(bits >> (6 * held - 8));
  if (held > 2) decoded[out++] = (uint8_t)(bits >> 2);
  return (spin_bytes_t){ decoded, out };
}
