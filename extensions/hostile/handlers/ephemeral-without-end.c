/* Counts its raises in memory and writes its map before it loops; both must be as before. */

#include "guest.h"

static uint32_t lost;

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return lost + 1;
  lost++;
  uint8_t value = 1;
  (void)kv_store_set(SPIN_STRING("lost"), (spin_bytes_t){ &value, 1 });
  for (;;) __asm__ volatile("");
}
