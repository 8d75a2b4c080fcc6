/* The host raises what the bystander counts; the count must not see the call that failed. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return 1;
  (void)trial_host_nudge();
  if (step == 1) __builtin_trap();
  return 2;
}
