/* A key is bytes to the host. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who, (void)step;
  spin_string_t key = SPIN_STRING("\x1B[2J\nx");
  uint8_t value[3] = { 1, 2, 3 };
  (void)kv_store_set(key, (spin_bytes_t){ value, sizeof value });
  return (uint32_t)kv_store_get(key).value.len;
}
