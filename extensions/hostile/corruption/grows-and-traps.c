/* Counts its raises in the first pages; touches pages that are not there any more. */

#include "guest.h"

enum { PAGE_BYTES = 65536 };

static uint32_t count;
static volatile uint8_t *grown;

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return ++count;
  size_t pages = __builtin_wasm_memory_size(0);
  if (step == 2) return ((volatile uint8_t *)(pages * PAGE_BYTES))[7];
  if (__builtin_wasm_memory_grow(0, 2) == SIZE_MAX) return 0;
  count = 1000;
  grown = (uint8_t *)(pages * PAGE_BYTES);
  for (size_t i = 0; i < 2 * PAGE_BYTES; i++) grown[i] = 0xA5;
  __builtin_trap();
}
