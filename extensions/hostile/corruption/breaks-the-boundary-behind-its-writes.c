/* The host finds the fault, not the engine. */

#include "guest.h"

static uint32_t count;

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return ++count;
  count = 1000;
  if (step == 1) return trial_host_thing_size((trial_host_thing_borrow_t){ 77 });
  trial_host_note((spin_string_t){ (uint8_t *)UINTPTR_MAX, 7 });
  return 1;
}
