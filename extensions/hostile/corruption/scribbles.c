/* Counts its raises, until it overwrites the count and all else. */

#include "guest.h"

enum { PAGE_BYTES = 65536, STACK_BYTES = 16384 };

static uint32_t count;

static void scribble(uint8_t value)
{
  volatile uint8_t *memory = (uint8_t *)0;
  for (size_t at = STACK_BYTES; at < __builtin_wasm_memory_size(0) * PAGE_BYTES; at++) memory[at] = value;
}

__attribute__((__noinline__)) static uint32_t deeper(uint32_t depth)
{
  volatile uint32_t frame[16];
  frame[depth & 15] = depth;
  return deeper(depth + 1) + frame[depth & 15];
}

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  if (step == 0) return ++count;
  do scribble(0xA5);
  while (step == 4);
  while (step == 2) __asm__ volatile("");
  if (step == 3) return deeper(0);
  __builtin_trap();
}
