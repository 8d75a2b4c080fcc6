/* Forms in which memory is shared and only the waiting differs: futex, eventfd, giving up the core, spinning.
 *
 * A ring of slots. The caller writes payload and number into a slot and then its turn; the callee, which waits for that
 * turn, writes the answer and then the turn on its side. Each side's turn lies in a cache line with what it announces. */
#define _GNU_SOURCE
#include "driver.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE_BYTES = 64 };

typedef struct {
  _Alignas(LINE_BYTES) _Atomic uint32_t turn;
  _Atomic uint32_t waiting;              /* futex: somebody sleeps until the turn changes */
  uint64_t value;
} side_t;

typedef struct {
  side_t asked, answered;
} slot_t;

typedef struct {
  void (*await)(side_t *side, uint32_t turn, int event);
  void (*announce)(side_t *side, uint32_t turn, int event);
} waiting_t;

static slot_t *slots;
static uint8_t *payloads;
static uint32_t next_asked = 1, next_received = 1;
static int asked_event = -1, answered_event = -1;

static int has(side_t *side, uint32_t turn)
{
  return atomic_load_explicit(&side->turn, memory_order_acquire) == turn;
}

static void announce_in_memory(side_t *side, uint32_t turn, int event)
{
  (void)event;
  atomic_store_explicit(&side->turn, turn, memory_order_release);
}

static void await_spinning(side_t *side, uint32_t turn, int event)
{
  (void)event;
  while (!has(side, turn));
}

static void await_yielding(side_t *side, uint32_t turn, int event)
{
  (void)event;
  while (!has(side, turn)) sched_yield();
}

static void await_futex(side_t *side, uint32_t turn, int event)
{
  (void)event;
  for (;;) {
    uint32_t seen = atomic_load(&side->turn);
    if (seen == turn) return;
    atomic_store(&side->waiting, 1);
    syscall(SYS_futex, &side->turn, FUTEX_WAIT, seen, NULL, NULL, 0);
  }
}

static void announce_futex(side_t *side, uint32_t turn, int event)
{
  (void)event;
  atomic_store(&side->turn, turn);
  if (atomic_exchange(&side->waiting, 0)) syscall(SYS_futex, &side->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await_event(side_t *side, uint32_t turn, int event)
{
  uint64_t count;
  while (!has(side, turn)) check(read(event, &count, sizeof count) == sizeof count, "read of an eventfd");
}

static void announce_event(side_t *side, uint32_t turn, int event)
{
  uint64_t one = 1;
  announce_in_memory(side, turn, event);
  check(write(event, &one, sizeof one) == sizeof one, "write to an eventfd");
}

static const waiting_t spinning = { await_spinning, announce_in_memory };
static const waiting_t yielding = { await_yielding, announce_in_memory };
static const waiting_t sleeping = { await_futex, announce_futex };
static const waiting_t reading = { await_event, announce_event };

static void open_ring(size_t bytes)
{
  size_t size = WINDOW_MAX * (sizeof *slots + bytes);
  slots = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  check(slots != MAP_FAILED, "mmap");
  payloads = (uint8_t *)(slots + WINDOW_MAX);
}

static void open_events(size_t bytes)
{
  open_ring(bytes);
  asked_event = eventfd(0, 0), answered_event = eventfd(0, 0);
  check(asked_event >= 0 && answered_event >= 0, "eventfd");
}

/* Inlined into each form below, so that none pays for a call through a pointer. */
static inline __attribute__((always_inline)) void ask(const waiting_t *waiting, request_t *request)
{
  uint32_t turn = next_asked++;
  slot_t *slot = slots + turn % WINDOW_MAX;
  memcpy(payloads + turn % WINDOW_MAX * payload_bytes, request->payload, payload_bytes);
  slot->asked.value = request->number;
  waiting->announce(&slot->asked, turn, asked_event);
}

static inline __attribute__((always_inline)) uint64_t answer_of(const waiting_t *waiting)
{
  uint32_t turn = next_received++;
  side_t *answered = &slots[turn % WINDOW_MAX].answered;
  waiting->await(answered, turn, answered_event);
  return answered->value;
}

static inline __attribute__((always_inline)) void answer_all(const waiting_t *waiting)
{
  for (uint32_t turn = 1;; turn++) {
    slot_t *slot = slots + turn % WINDOW_MAX;
    waiting->await(&slot->asked, turn, asked_event);
    slot->answered.value = slot->asked.value + checksum(payloads + turn % WINDOW_MAX * payload_bytes, payload_bytes);
    waiting->announce(&slot->answered, turn, answered_event);
  }
}

#define FORM(name, waiting, open) \
  static void ask_##name(request_t *request) { ask(&waiting, request); } \
  static uint64_t answer_of_##name(void) { return answer_of(&waiting); } \
  static void answer_all_##name(void) { answer_all(&waiting); } \
  const form_t name##_form = { \
    #name, WINDOW_MAX, open, nothing_to_enter, nothing_to_enter, ask_##name, answer_of_##name, answer_all_##name, \
  }

FORM(spin, spinning, open_ring);
FORM(yield, yielding, open_ring);
FORM(futex, sleeping, open_ring);
FORM(eventfd, reading, open_events);
