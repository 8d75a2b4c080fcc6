/* A handler that does nothing, and one that fails. */

#include "guest.h"

enum { WORDS_MAX = 1 << 13 };

static uint64_t words[WORDS_MAX];

uint32_t export_transactions_handlers_nothing(uint32_t number)
{
  return number;
}

uint32_t export_transactions_handlers_fail(uint32_t count, uint32_t fails)
{
  for (uint32_t number = 0; number < count && number < WORDS_MAX; number++) words[number] += number + fails;
  if (fails) __builtin_trap();
  return count;
}
