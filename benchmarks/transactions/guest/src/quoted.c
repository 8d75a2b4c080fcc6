/* Quoted-printable (RFC 2045, 6.7): =XX is a byte, = at the end of a line joins it with the next. */

#include "kernels.h"

static uint8_t decoded[INPUT_BYTES];

/* The value of a hexadecimal digit, or 16 and more. */
static uint32_t nibble(uint8_t byte)
{
  uint32_t number = byte - (uint32_t)'0', letter = (byte | 0x20u) - 'a';
  return number < 10 ? number : letter < 6 ? letter + 10 : 16;
}

spin_bytes_t quoted_decode(const uint8_t *text, size_t length)
{
  size_t at = 0, out = 0;
  while (at < length) {
    uint8_t byte = text[at++];
    if (byte != '=') {
      decoded[out++] = byte;
      continue;
    }
    if (at + 1 < length && text[at] == '\r' && text[at + 1] == '\n') {
      at += 2;
    } else if (at < length && text[at] == '\n') {
      at++;
    } else {
      uint32_t high = at + 1 < length ? nibble(text[at]) : 16, low = high < 16 ? nibble(text[at + 1]) : 16;
      decoded[out++] = low < 16 ? (uint8_t)(high << 4 | low) : '=';
      at += low < 16 ? 2 : 0;
    }
  }
  return (spin_bytes_t){ decoded, out };
}
