/* Building a text of many pieces in a buffer that grows to twice its size when it is full. */

#include "kernels.h"

enum { FIRST_BYTES = 64, HEX_DIGITS = 8, DECIMAL_MAX = 10 };

typedef struct {
  uint8_t *bytes;
  size_t len, room;
} buffer_t;

static void reserve(buffer_t *buffer, size_t more)
{
  size_t room = buffer->room ? buffer->room : FIRST_BYTES;
  while (room < buffer->len + more) room *= 2;
  if (room == buffer->room) return;
  uint8_t *wider = spin_alloc(room, 8);
  if (buffer->len) memcpy(wider, buffer->bytes, buffer->len);
  buffer->bytes = wider;
  buffer->room = room;
}

static void append(buffer_t *buffer, spin_string_t piece)
{
  reserve(buffer, piece.len);
  memcpy(buffer->bytes + buffer->len, piece.ptr, piece.len);
  buffer->len += piece.len;
}

static void append_decimal(buffer_t *buffer, uint32_t number)
{
  uint8_t digits[DECIMAL_MAX];
  size_t start = DECIMAL_MAX;
  do digits[--start] = (uint8_t)('0' + number % 10);
  while ((number /= 10) != 0);
  append(buffer, (spin_string_t){ digits + start, DECIMAL_MAX - start });
}

static void append_hex(buffer_t *buffer, uint32_t number)
{
  uint8_t digits[HEX_DIGITS];
  for (size_t i = 0; i < HEX_DIGITS; i++) digits[i] = (uint8_t)"0123456789abcdef"[number >> (28 - 4 * i) & 15];
  append(buffer, (spin_string_t){ digits, HEX_DIGITS });
}

static spin_string_t word(uint32_t number)
{
  static const char words[4][12] = { "accepted", "filed", "refused", "put off" };
  static const uint8_t lengths[4] = { 8, 5, 7, 7 };
  return (spin_string_t){ (uint8_t *)words[number % 4], lengths[number % 4] };
}

spin_bytes_t build_string(uint32_t lines)
{
  buffer_t text = { 0 };
  for (uint32_t number = 0; number < lines; number++) {
    append(&text, SPIN_STRING("message="));
    append_decimal(&text, number * number + 1);
    append(&text, SPIN_STRING(" id="));
    append_hex(&text, number * 2654435761u);
    append(&text, SPIN_STRING(" size="));
    append_decimal(&text, number % 7 * 1000 + 42);
    append(&text, SPIN_STRING(" outcome="));
    append(&text, word(number));
    append(&text, SPIN_STRING("\n"));
  }
  return (spin_bytes_t){ text.bytes, text.len };
}
