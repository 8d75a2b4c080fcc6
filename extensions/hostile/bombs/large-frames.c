/* Recursion with frames of a kilobyte in its own memory. */

#include "guest.h"

__attribute__((__noinline__)) static uint32_t deeper(volatile uint8_t *above, uint32_t depth)
{
  volatile uint8_t frame[1024];
  frame[0] = (uint8_t)(above[0] + 1);
  return depth == 0 ? frame[0] : deeper(frame, depth - 1) + frame[0];
}

uint32_t export_trial_events_run(uint32_t who, uint32_t step)
{
  (void)who;
  volatile uint8_t top = 0;
  return deeper(&top, step == 0 ? 0 : 1000000);
}
