/* Uses things that it has no more. */

#include "guest.h"

static uint32_t size_of(trial_host_thing_own_t thing)
{
  return trial_host_thing_size((trial_host_thing_borrow_t){ thing.handle });
}

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  trial_host_thing_own_t thing = trial_host_lend();
  switch (step) {
    case 0: trial_host_thing_drop(thing); return 1;
    case 1: trial_host_thing_drop(thing); trial_host_thing_drop(thing); return 2;
    case 2: trial_host_take(thing); trial_host_take(thing); return 3;
    case 3: trial_host_take(thing); return size_of(thing);
    default: return size_of((trial_host_thing_own_t){ trial_host_lend_other().handle });
  }
}
