/* Six kernels. Each reads an input that is part of the module and answers how many bytes it produced, or how many
 * entries; `output` shows what that was. */
#ifndef KERNELS_H
#define KERNELS_H

#include "guest.h"

enum { INPUT_BYTES = 4096 };

extern const uint8_t headers_text[INPUT_BYTES];
extern const uint8_t prose_text[INPUT_BYTES];
extern const uint8_t base64_text[INPUT_BYTES];
extern const uint8_t quoted_text[INPUT_BYTES];

spin_bytes_t header_parse(const uint8_t *text, size_t length, uint32_t *count);
spin_bytes_t token_count(const uint8_t *text, size_t length, uint32_t *count);
spin_bytes_t base64_decode(const uint8_t *text, size_t length);
spin_bytes_t quoted_decode(const uint8_t *text, size_t length);
spin_bytes_t sha256(const uint8_t *text, size_t length);
spin_bytes_t build_string(uint32_t lines);

#endif
