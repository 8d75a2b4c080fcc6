/* The low half of the step says how often to write a hundred bytes; the high half, whether each goes under a key of its own. */

#include "guest.h"

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  static uint8_t value[100];
  uint8_t key[2] = { 'k', 'a' };
  uint32_t written = 0;
  for (uint32_t i = 0; i < (step & 0xffff); i++) {
    size_t length = step >> 16 ? 2 : 1;
    key[1] = (uint8_t)('0' + i);
    if (!kv_store_set((spin_string_t){ key, length }, (spin_bytes_t){ value, sizeof value }).is_err) written++;
  }
  return written;
}
