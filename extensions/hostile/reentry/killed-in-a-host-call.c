/* What it wrote into its map before it was killed must not stay there. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return 1;
  uint8_t value[3] = { 1, 2, 3 };
  kv_store_set(SPIN_STRING("before"), (spin_bytes_t){ value, sizeof value });
  trial_host_kill();
  while (step == 2) __asm__ volatile("");
  kv_store_set(SPIN_STRING("behind"), (spin_bytes_t){ value, sizeof value });
  return 2;
}
