#include "text.h"

text_t text_new(void)
{
  return (text_t){ .bytes = spin_alloc(TEXT_BYTES_MAX, 1), .len = 0 };
}

spin_string_t text_clip(spin_string_t text, size_t bytes_max)
{
  size_t len = text.len < bytes_max ? text.len : bytes_max;
  while (len < text.len && len > 0 && (text.ptr[len] & 0xC0) == 0x80) len--;
  return (spin_string_t){ text.ptr, len };
}

void text_append(text_t *text, spin_string_t part)
{
  spin_string_t fitting = text_clip(part, TEXT_BYTES_MAX - text->len);
  memcpy(text->bytes + text->len, fitting.ptr, fitting.len);
  text->len += fitting.len;
}

bool text_append_fact(text_t *text, spin_string_t name, spin_string_t value)
{
  size_t room = TEXT_BYTES_MAX - text->len;
  if (name.len + 2 > room || value.len > room - name.len - 2) return false;
  text_append(text, name);
  text_append(text, SPIN_STRING("="));
  for (size_t i = 0; i < value.len; i++) {
    uint8_t byte = value.ptr[i];
    text->bytes[text->len++] = byte < ' ' || byte == 127 ? '?' : byte;
  }
  text_append(text, SPIN_STRING("\n"));
  return true;
}

spin_string_t text_string(const text_t *text)
{
  return (spin_string_t){ text->bytes, text->len };
}

bool text_blank(spin_string_t text)
{
  for (size_t i = 0; i < text.len; i++)
    if (text.ptr[i] != ' ' && text.ptr[i] != '\t' && text.ptr[i] != '\r' && text.ptr[i] != '\n') return false;
  return true;
}
