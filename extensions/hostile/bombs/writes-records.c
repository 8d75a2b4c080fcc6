/* As many records as the step says; 0x100: one of too many fields, 0x200: one of too long a text. */

#include "guest.h"

enum { FIELDS = 65, TEXT_BYTES = 4097 };

static void write_many_fields(void)
{
  static logging_field_t fields[FIELDS];
  for (size_t i = 0; i < FIELDS; i++) fields[i] = (logging_field_t){ SPIN_STRING("name"), SPIN_STRING("value") };
  logging_write(LOGGING_LEVEL_INFO, SPIN_STRING("many"), (spin_list_logging_field_t){ fields, FIELDS });
}

static void write_long_text(void)
{
  static uint8_t text[TEXT_BYTES];
  for (size_t i = 0; i < TEXT_BYTES; i++) text[i] = 'x';
  logging_write(LOGGING_LEVEL_INFO, (spin_string_t){ text, TEXT_BYTES }, (spin_list_logging_field_t){ NULL, 0 });
}

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0x100) write_many_fields();
  if (step == 0x200) write_long_text();
  for (uint32_t i = 0; i < (step & 0xff); i++)
    logging_write(LOGGING_LEVEL_WARNING, SPIN_STRING("again"), (spin_list_logging_field_t){ NULL, 0 });
  return step;
}
