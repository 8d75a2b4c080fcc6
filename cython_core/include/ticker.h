/* The ticker: one thread per process that moves the engine's epoch on, so that calls meet their deadlines.
 *
 * It holds no GIL and takes no lock while ticking. Every call, every return of a host function and every look at a running guest
 * says so (`spin_ticker_touch`): the first one after a tick by a store, the others see that it was said. When nobody did for
 * SPIN_IDLE_TICKS it parks on a condition variable, and the next one wakes it. That time is longer than anything that runs in a
 * guest without a look (bulk operations on 4 GiB). After fork the child has no ticker thread; its next call starts one.
 */
#ifndef SPINRT_TICKER_H
#define SPINRT_TICKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define SPIN_TICK_NS 1000000L
#define SPIN_IDLE_TICKS 10000

/* SPIN_QUIET: nobody has run since the last tick. SPIN_PARKED: nor for a long time, and there are no ticks. */
enum { SPIN_QUIET = 0, SPIN_TOUCHED = 1, SPIN_PARKED = 2 };

static struct {
  void (*increment)(void *);
  void *engine;
  _Atomic uint64_t tick;
  _Atomic uint8_t watch;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} spin_ticker = {.watch = SPIN_PARKED, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void spin_ticker_park(void) {
  uint8_t quiet = SPIN_QUIET;
  pthread_mutex_lock(&spin_ticker.lock);
  atomic_compare_exchange_strong(&spin_ticker.watch, &quiet, SPIN_PARKED); /* unless somebody came meanwhile */
  while (atomic_load(&spin_ticker.watch) == SPIN_PARKED) pthread_cond_wait(&spin_ticker.wake, &spin_ticker.lock);
  pthread_mutex_unlock(&spin_ticker.lock);
}

static void *spin_ticker_run(void *unused) {
  const struct timespec tick = {0, SPIN_TICK_NS};
  uint32_t idle = 0;
  (void)unused;
  for (;;) {
    idle = atomic_exchange(&spin_ticker.watch, SPIN_QUIET) == SPIN_TOUCHED ? 0 : idle + 1;
    if (idle >= SPIN_IDLE_TICKS) spin_ticker_park();
    nanosleep(&tick, NULL);
    spin_ticker.increment(spin_ticker.engine);
    atomic_fetch_add(&spin_ticker.tick, 1);
  }
  return NULL;
}

static void spin_ticker_in_child(void) {
  pthread_mutex_init(&spin_ticker.lock, NULL);
  pthread_cond_init(&spin_ticker.wake, NULL);
  spin_ticker.started = false;
  atomic_store(&spin_ticker.watch, SPIN_PARKED);
}

/* Returns 0, or the error number of pthread_create. */
static int spin_ticker_start(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  int failed;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  failed = pthread_create(&thread, &attributes, spin_ticker_run, NULL);
  pthread_attr_destroy(&attributes);
  if (!failed) spin_ticker.started = true;
  return failed;
}

static int spin_ticker_wake(void) {
  int failed = 0;
  pthread_mutex_lock(&spin_ticker.lock);
  if (!spin_ticker.started) failed = spin_ticker_start();
  if (!failed) atomic_store(&spin_ticker.watch, SPIN_TOUCHED);
  pthread_cond_signal(&spin_ticker.wake);
  pthread_mutex_unlock(&spin_ticker.lock);
  return failed;
}

/* The first one after a tick; returns 0 or an error number. */
__attribute__((noinline, cold)) static int spin_ticker_note(void) {
  uint8_t quiet = SPIN_QUIET;
  atomic_compare_exchange_strong(&spin_ticker.watch, &quiet, SPIN_TOUCHED);
  return quiet == SPIN_PARKED ? spin_ticker_wake() : 0;
}

static void spin_ticker_init(void (*increment)(void *), void *engine) {
  spin_ticker.increment = increment;
  spin_ticker.engine = engine;
  pthread_atfork(NULL, NULL, spin_ticker_in_child);
}

/* Somebody runs. One look at memory, but for the first in a tick; returns 0 or an error number. */
static inline int spin_ticker_touch(void) {
  if (__builtin_expect(atomic_load_explicit(&spin_ticker.watch, memory_order_relaxed) == SPIN_TOUCHED, 1)) return 0;
  return spin_ticker_note();
}

#endif
