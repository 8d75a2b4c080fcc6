/* How much of this thread's stack is left: guest code runs on it, and the engine's bound counts from where it is entered.
 *
 * The lower end is asked for once per thread; after that a look costs one thread-local load and one comparison.
 */
#ifndef SPINRT_STACK_H
#define SPINRT_STACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static __thread uintptr_t spin_stack_low;

static uintptr_t spin_stack_find_low(void) {
  pthread_attr_t attributes;
  void *low = NULL;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes)) return 1; /* unknown: claim all of it */
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  return low == NULL ? 1 : (uintptr_t)low;
}

static inline bool spin_stack_has(size_t bytes) {
  char here;
  if (__builtin_expect(spin_stack_low == 0, 0)) spin_stack_low = spin_stack_find_low();
  return (uintptr_t)&here - spin_stack_low > bytes;
}

#endif
