/* Where this thread's stack lies: guest code runs on it, and the engine's bound counts from where it is entered. */
#ifndef SPINRT_STACK_H
#define SPINRT_STACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False when the system does not tell. `size` counts from the lower end. */
static bool spin_stack_find(uintptr_t *low, size_t *size) {
  pthread_attr_t attributes;
  void *address = NULL;
  *size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes)) return false;
  pthread_attr_getstack(&attributes, &address, size);
  pthread_attr_destroy(&attributes);
  *low = (uintptr_t)address;
  return address != NULL && *size != 0;
}

#endif
