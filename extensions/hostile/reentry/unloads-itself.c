/* Has itself unloaded, and then returns or traps. */

#include "guest.h"

static uint32_t raised;

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  raised++;
  if (step != 0) trial_host_unload();
  if (step == 2) __builtin_trap();
  return raised;
}
