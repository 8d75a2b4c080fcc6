/* One handle is kept from the first call on. */

#include "guest.h"

static trial_host_thing_own_t kept;

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  switch (step) {
    case 0: kept = trial_host_lend(); break;
    case 1: (void)trial_host_lend(); trial_host_thing_drop(kept); (void)trial_host_lend(); __builtin_trap();
    case 3: trial_host_take(kept); (void)trial_host_lend(); __builtin_trap();
    default: break;
  }
  return trial_host_thing_size((trial_host_thing_borrow_t){ kept.handle });
}
