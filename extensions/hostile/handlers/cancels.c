/* Cancels the raise; then it returns, traps, breaks the rules, or loops. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step != 0) extension_control_cancel();
  if (step == 2) __builtin_trap();
  if (step == 3) trial_host_note((spin_string_t){ (uint8_t *)UINTPTR_MAX, 7 });
  while (step == 4) __asm__ volatile("");
  return 1;
}
