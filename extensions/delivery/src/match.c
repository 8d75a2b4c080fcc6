/* Comparing and building texts. Nothing here takes more than length times length steps, both bounded. */

#include "rules.h"

enum { SAFE_BYTES_MAX = 64 };

static uint8_t lower(uint8_t byte)
{
  return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

bool text_is(spin_string_t text, spin_string_t other)
{
  if (text.len != other.len) return false;
  for (size_t i = 0; i < text.len; i++)
    if (lower(text.ptr[i]) != lower(other.ptr[i])) return false;
  return true;
}

bool text_contains(spin_string_t text, spin_string_t part)
{
  for (size_t start = 0; start + part.len <= text.len; start++)
    if (text_is((spin_string_t){ text.ptr + start, part.len }, part)) return true;
  return false;
}

/* When a byte does not fit, the last `*` takes one byte more; earlier ones never need to be tried again. */
bool text_matches(spin_string_t text, spin_string_t pattern)
{
  size_t at = 0, want = 0, star_at = 0, star = SIZE_MAX;
  while (at < text.len) {
    if (want < pattern.len && pattern.ptr[want] == '*') {
      star = want++;
      star_at = at;
    } else if (want < pattern.len && (pattern.ptr[want] == '?' || lower(pattern.ptr[want]) == lower(text.ptr[at]))) {
      at++;
      want++;
    } else if (star != SIZE_MAX) {
      want = star + 1;
      at = ++star_at;
    } else {
      return false;
    }
  }
  while (want < pattern.len && pattern.ptr[want] == '*') want++;
  return want == pattern.len;
}

spin_string_t text_in_brackets(spin_string_t text)
{
  size_t open = text.len;
  while (open > 0 && text.ptr[open - 1] != '<') open--;
  if (open == 0) return text;
  size_t end = open;
  while (end < text.len && text.ptr[end] != '>') end++;
  return (spin_string_t){ text.ptr + open, end - open };
}

spin_string_t text_first_label(spin_string_t text)
{
  size_t end = 0;
  while (end < text.len && text.ptr[end] != '.') end++;
  return (spin_string_t){ text.ptr, end };
}

void buffer_append(buffer_t *buffer, spin_string_t text)
{
  if (text.len > sizeof buffer->bytes - buffer->len) {
    buffer->overflow = true;
    return;
  }
  memcpy(buffer->bytes + buffer->len, text.ptr, text.len);
  buffer->len += text.len;
}

static bool harmless(uint8_t byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

void buffer_append_safe(buffer_t *buffer, spin_string_t text)
{
  uint8_t safe[SAFE_BYTES_MAX];
  size_t len = text.len < SAFE_BYTES_MAX ? text.len : SAFE_BYTES_MAX;
  for (size_t i = 0; i < len; i++) {
    uint8_t byte = lower(text.ptr[i]);
    safe[i] = harmless(byte) && !(i == 0 && byte == '.') ? byte : '-';
  }
  buffer_append(buffer, (spin_string_t){ safe, len });
}
