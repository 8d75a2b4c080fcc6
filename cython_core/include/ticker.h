/* The ticker: one thread per process that moves the engine's epoch on, so that calls meet their deadlines.
 *
 * It holds no GIL and takes no lock while ticking. Every call tells it, by one store, up to which tick it is needed
 * (`spin_ticker_need`); when that tick is past it parks on a condition variable, and the next call wakes it. A wake-up lost
 * between the caller's store and the parker's last look is made good by the timed wait: a deadline may then be late by
 * at most SPIN_PARK_S, once. After fork the child has no ticker thread; its next call starts one.
 */
#ifndef SPINRT_TICKER_H
#define SPINRT_TICKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define SPIN_TICK_NS 1000000L
#define SPIN_PARK_S 1

static struct {
  void (*increment)(void *);
  void *engine;
  _Atomic uint64_t tick;
  _Atomic uint64_t needed_until;
  _Atomic bool parked;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} spin_ticker = {.parked = true, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static bool spin_ticker_idle(void) {
  return atomic_load(&spin_ticker.tick) > atomic_load(&spin_ticker.needed_until);
}

static void spin_ticker_park(void) {
  pthread_mutex_lock(&spin_ticker.lock);
  atomic_store(&spin_ticker.parked, true);
  while (spin_ticker_idle()) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SPIN_PARK_S;
    pthread_cond_timedwait(&spin_ticker.wake, &spin_ticker.lock, &until);
  }
  atomic_store(&spin_ticker.parked, false);
  pthread_mutex_unlock(&spin_ticker.lock);
}

static void *spin_ticker_run(void *unused) {
  const struct timespec tick = {0, SPIN_TICK_NS};
  (void)unused;
  for (;;) {
    if (spin_ticker_idle()) spin_ticker_park();
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
  atomic_store(&spin_ticker.parked, true);
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
  pthread_cond_signal(&spin_ticker.wake);
  pthread_mutex_unlock(&spin_ticker.lock);
  return failed;
}

static void spin_ticker_init(void (*increment)(void *), void *engine) {
  spin_ticker.increment = increment;
  spin_ticker.engine = engine;
  pthread_atfork(NULL, NULL, spin_ticker_in_child);
}

/* A call that begins now may run for `ticks`. One store when the ticker runs; returns 0 or an error number. */
static inline int spin_ticker_need(uint64_t ticks) {
  uint64_t until = atomic_load_explicit(&spin_ticker.tick, memory_order_relaxed) + ticks;
  if (until > atomic_load_explicit(&spin_ticker.needed_until, memory_order_relaxed))
    atomic_store_explicit(&spin_ticker.needed_until, until, memory_order_relaxed);
  if (__builtin_expect(atomic_load_explicit(&spin_ticker.parked, memory_order_relaxed), 0)) return spin_ticker_wake();
  return 0;
}

#endif
