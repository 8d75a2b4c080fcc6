/* Nothing of what it wrote in a call that trapped may be found, by itself or by others. */

#include "guest.h"

static void put(spin_string_t key, uint32_t value)
{
  (void)kv_store_set(key, (spin_bytes_t){ (uint8_t *)&value, sizeof value });
}

static uint32_t find(void)
{
  spin_option_bytes_t lost = kv_store_get(SPIN_STRING("lost"));
  spin_option_bytes_t kept = kv_store_get(SPIN_STRING("kept"));
  return lost.is_some ? 0 : (uint32_t)kept.value.len;
}

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 2) return find();
  if (step == 0) {
    put(SPIN_STRING("kept"), 1);
    return 0;
  }
  put(SPIN_STRING("lost"), 2);
  (void)kv_store_delete(SPIN_STRING("kept"));
  logging_write(LOGGING_LEVEL_ERROR, SPIN_STRING("lost"), (spin_list_logging_field_t){ NULL, 0 });
  __builtin_trap();
}
