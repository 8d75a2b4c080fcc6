/* The ticker: one thread per process that moves the engine's epoch on, so that calls meet their deadlines.
 *
 * It holds no GIL and takes no lock while ticking. Every call, every return of a host function and every look at a running guest
 * says so by one store (`spin_ticker_touch`). When nobody did for SPIN_IDLE_TICKS it parks on a condition variable, and the
 * next one wakes it. That time is longer than anything that runs in a guest without a look (bulk operations on 4 GiB). A
 * wake-up lost between the caller's store and the parker's last look is made good by the timed wait: a deadline may then be
 * late by at most SPIN_PARK_S, once. After fork the child has no ticker thread; its next call starts one.
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
#define SPIN_IDLE_TICKS 10000

static struct {
  void (*increment)(void *);
  void *engine;
  _Atomic uint64_t tick;
  _Atomic bool touched;
  _Atomic bool parked;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} spin_ticker = {.parked = true, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void spin_ticker_park(void) {
  pthread_mutex_lock(&spin_ticker.lock);
  while (!atomic_load(&spin_ticker.touched)) {
    struct timespec until;
    atomic_store(&spin_ticker.parked, true);
    if (atomic_load(&spin_ticker.touched)) break; /* a caller came between the two lines */
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SPIN_PARK_S;
    pthread_cond_timedwait(&spin_ticker.wake, &spin_ticker.lock, &until);
  }
  atomic_store(&spin_ticker.parked, false);
  pthread_mutex_unlock(&spin_ticker.lock);
}

static void *spin_ticker_run(void *unused) {
  const struct timespec tick = {0, SPIN_TICK_NS};
  uint32_t idle = 0;
  (void)unused;
  for (;;) {
    idle = atomic_exchange(&spin_ticker.touched, false) ? 0 : idle + 1;
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
  /* Cleared here, not by the ticker when it gets to run: until then every call would come this way. */
  atomic_store(&spin_ticker.parked, false);
  pthread_cond_signal(&spin_ticker.wake);
  pthread_mutex_unlock(&spin_ticker.lock);
  return failed;
}

static void spin_ticker_init(void (*increment)(void *), void *engine) {
  spin_ticker.increment = increment;
  spin_ticker.engine = engine;
  pthread_atfork(NULL, NULL, spin_ticker_in_child);
}

/* Somebody runs. Two memory accesses when the ticker runs; returns 0 or an error number. */
static inline int spin_ticker_touch(void) {
  atomic_store_explicit(&spin_ticker.touched, true, memory_order_relaxed);
  if (__builtin_expect(atomic_load_explicit(&spin_ticker.parked, memory_order_relaxed), 0)) return spin_ticker_wake();
  return 0;
}

#endif
