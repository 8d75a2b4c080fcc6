/* Header fields (RFC 5322, 2.2): a table of where each name and value is, with names in lower case. */

#include "kernels.h"

enum { FIELDS_MAX = 128, NAMES_BYTES = 4096 };

typedef struct {
  uint16_t name_at;       /* in `names` */
  uint16_t name_bytes;
  uint16_t value_at;      /* in the text, behind the colon and blanks */
  uint16_t value_bytes;   /* without the last line end; folded lines are in it as they came */
  uint32_t name_hash;     /* FNV-1a of the name in lower case */
} field_t;

static struct {
  field_t fields[FIELDS_MAX];
  uint8_t names[NAMES_BYTES];
} table;

static bool blank(uint8_t byte)
{
  return byte == ' ' || byte == '\t';
}

/* The end of the line that begins at `at`: where its CRLF or LF is, or the end of the text. */
static size_t line_end(const uint8_t *text, size_t at, size_t length)
{
  while (at < length && text[at] != '\n') at++;
  return at;
}

/* The end of a field's value: lines that begin with a blank belong to it. */
static size_t value_end(const uint8_t *text, size_t at, size_t length)
{
  size_t end = line_end(text, at, length);
  while (end + 1 < length && blank(text[end + 1])) end = line_end(text, end + 1, length);
  return end;
}

spin_bytes_t header_parse(const uint8_t *text, size_t length, uint32_t *count)
{
  size_t at = 0, names = 0, found = 0;
  while (at < length && found < FIELDS_MAX && text[at] != '\r' && text[at] != '\n') {
    field_t *field = &table.fields[found];
    uint32_t hash = 2166136261u;
    size_t name = names;
    while (at < length && text[at] != ':' && text[at] != '\n' && names < NAMES_BYTES) {
      uint8_t byte = text[at++];
      if (byte >= 'A' && byte <= 'Z') byte |= 0x20;
      table.names[names++] = byte;
      hash = (hash ^ byte) * 16777619u;
    }
    if (at == length || text[at] != ':') {
      names = name;
      at = line_end(text, at, length) + 1;
      continue;
    }
    at++;
    while (at < length && blank(text[at])) at++;
    size_t end = value_end(text, at, length);
    field->name_at = (uint16_t)name;
    field->name_bytes = (uint16_t)(names - name);
    field->name_hash = hash;
    field->value_at = (uint16_t)at;
    field->value_bytes = (uint16_t)(end - at - (end > at && text[end - 1] == '\r'));
    at = end + 1;
    found++;
  }
  *count = (uint32_t)found;
  return (spin_bytes_t){ (uint8_t *)table.fields, found * sizeof(field_t) };
}
