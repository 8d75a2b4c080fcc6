/* A bit for each write that was taken. */

#include "guest.h"

enum { KEY_BYTES = 257, VALUE_BYTES = 65537 };

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who, (void)step;
  static uint8_t bytes[VALUE_BYTES];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = 'x';
  spin_string_t key = { bytes, 3 };
  spin_bytes_t value = { bytes, 3 };
  uint32_t taken = 0;
  taken |= (uint32_t)!kv_store_set((spin_string_t){ bytes, 0 }, value).is_err;
  taken |= (uint32_t)!kv_store_set((spin_string_t){ bytes, KEY_BYTES }, value).is_err << 1;
  taken |= (uint32_t)!kv_store_set(key, (spin_bytes_t){ bytes, VALUE_BYTES }).is_err << 2;
  return taken;
}
