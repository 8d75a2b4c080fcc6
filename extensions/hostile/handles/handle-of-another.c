/* The host tells what number a handle of another extension has; here that number means nothing. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  uint32_t number = trial_host_foreign();
  if (step == 0) return number != 0;
  return trial_host_thing_size((trial_host_thing_borrow_t){ (int32_t)number });
}
