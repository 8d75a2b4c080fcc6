/*
 * An extension that does no harm and notices harm. It counts what it is raised for, and looks at every call whether what it
 * wrote down is still there; if not, it traps.
 */

#include "guest.h"

enum { WORDS = 512 };

static uint32_t pattern[WORDS];
static uint32_t count;

static uint32_t word(uint32_t position)
{
  return (position + count) * 2654435761u;
}

static void check_and_count(void)
{
  for (uint32_t i = 0; i < WORDS; i++)
    if (pattern[i] != (count == 0 ? 0 : word(i))) __builtin_trap();
  count++;
  for (uint32_t i = 0; i < WORDS; i++) pattern[i] = word(i);
}

uint64_t export_trial_events_steady(uint32_t number)
{
  check_and_count();
  return (uint64_t)number << 32 | count;
}

spin_string_t export_trial_events_speak(spin_string_t text)
{
  uint8_t *swapped = spin_alloc(text.len, 1);
  for (size_t i = 0; i < text.len; i++) {
    uint8_t small = text.ptr[i] | 0x20;
    swapped[i] = small >= 'a' && small <= 'z' ? text.ptr[i] ^ 0x20 : text.ptr[i];
  }
  return (spin_string_t){ swapped, text.len };
}

/* Behind every guest that is raised by the same event. */
uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  return ~(who ^ step);
}

/* A handle that stays its own: what `foreign` tells the others. */
uint32_t export_trial_events_look(uint32_t who, uint32_t step, trial_host_thing_borrow_t thing)
{
  (void)who, (void)step, (void)thing;
  return (uint32_t)trial_host_lend().handle;
}
