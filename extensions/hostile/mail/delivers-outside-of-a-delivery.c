/* How many of its wishes were taken. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who, (void)step;
  uint32_t taken = (uint32_t)!mail_delivery_discard().is_err;
  taken += (uint32_t)!mail_delivery_file_into(SPIN_STRING("INBOX")).is_err;
  return taken + (uint32_t)!mail_delivery_set_flag(SPIN_STRING("$a")).is_err;
}
