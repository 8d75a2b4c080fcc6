/* Escapes and line ends where people read. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who, (void)step;
  logging_field_t field = { SPIN_STRING("a\nlevel=error event=forged"), SPIN_STRING("\xE2\x80\xAE\0") };
  logging_write(LOGGING_LEVEL_ERROR, SPIN_STRING("\x1B[2J"), (spin_list_logging_field_t){ &field, 1 });
  return 1;
}
