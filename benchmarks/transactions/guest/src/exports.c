/* The exports, and what the last of them produced. */

#include "kernels.h"

enum { BUILT_LINES = 70 };   /* some 4 KiB */

#pragma clang diagnostic ignored "-Wc23-extensions"   /* #embed */

const uint8_t headers_text[INPUT_BYTES] = {
#embed "headers.eml"
};
const uint8_t prose_text[INPUT_BYTES] = {
#embed "prose.txt"
};
const uint8_t base64_text[INPUT_BYTES] = {
#embed "base64.txt"
};
const uint8_t quoted_text[INPUT_BYTES] = {
#embed "quoted.txt"
};

static spin_bytes_t produced;

uint32_t export_transactions_kernels_header_parse(void)
{
  uint32_t count;
  produced = header_parse(headers_text, INPUT_BYTES, &count);
  return count;
}

uint32_t export_transactions_kernels_token_count(void)
{
  uint32_t count;
  produced = token_count(prose_text, INPUT_BYTES, &count);
  return count;
}

uint32_t export_transactions_kernels_base64_decode(void)
{
  produced = base64_decode(base64_text, INPUT_BYTES);
  return produced.len;
}

uint32_t export_transactions_kernels_quoted_printable_decode(void)
{
  produced = quoted_decode(quoted_text, INPUT_BYTES);
  return produced.len;
}

uint32_t export_transactions_kernels_sha256(void)
{
  produced = sha256(prose_text, INPUT_BYTES);
  return produced.len;
}

uint32_t export_transactions_kernels_string_building(void)
{
  produced = build_string(BUILT_LINES);
  return produced.len;
}

spin_bytes_t export_transactions_kernels_output(void)
{
  return produced;
}
