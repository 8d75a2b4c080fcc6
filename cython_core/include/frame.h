/* What runs in a store: frames, from the one that was entered last outwards, and the clock that ends what runs too long.
 *
 * Every entry from the host into guest code pushes a frame, which lives on the C stack, or with the handler when nothing else
 * runs (quick.h). A frame names the handlers that it may run (`slots`) and which of them runs now (`*progress`, which the stub
 * writes while it walks). Nothing is measured on the way in. The engine calls `spin_on_tick` at the first check after each tick
 * (1 ms): the frame's clock starts when a tick first meets its handler, so a deadline is met up to one tick late. What counts is
 * processor time of the thread, so that a busy machine ends nobody; SPIN_WALL_FACTOR times as much wall time ends a handler that
 * sleeps in host functions.
 *
 * `spin_on_tick` holds no Python object and needs no GIL: it says why it ended a call (`ended`), and the error is made later.
 */
#ifndef SPINRT_FRAME_H
#define SPINRT_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "engine_abi.h"
#include "ticker.h"

#define SPIN_WALL_FACTOR 10
#define SPIN_UNSEEN UINT32_MAX

enum { SPIN_RUNS = 0, SPIN_ENDED_DEADLINE = 1, SPIN_ENDED_KILL = 2, SPIN_ENDED_SIGNAL = 3, SPIN_ENDED_OUTER = 4 };

/* The head of an undo log, where the guest's code keeps it: at the start of its own memory (docs/design/transactions.md). */
typedef struct {
  union {
    struct { uint32_t head, moved; } at;
    uint64_t state;             /* both at once: what differs from the last commit has to be settled */
  };
  uint64_t stamp;
  uint32_t bytes_head, functions_head, externs_head, bytes_next;
  uint64_t countdown;
  uint32_t dead_below;
} spin_log;

#define SPIN_STAMP_SHIFT 36
#define SPIN_STAMP_ONE ((uint64_t)1 << SPIN_STAMP_SHIFT)
#define SPIN_FLAGS_AT 64
#define SPIN_LOG_KEPT_BYTES (1u << 20)    /* of a log stay in memory, however large it was */

/* The part of an instance that is looked at on every call. */
typedef struct {
  uint32_t state;               /* 0: may be entered; else bits of SPIN_BUSY … */
  uint32_t host_calls_left;
  uint64_t lift_left;
  uint64_t budget_seq;          /* the frame and handler that the two quotas above were filled for */
  uint32_t budget_progress;
  uint32_t host_calls;
  uint64_t lift_bytes;
  uint32_t deadline_ticks;
  bool outside;                 /* something changed that the log's head does not tell: handles, or bytes that the host saved */
  bool may_leave;               /* host functions may be called (not from within cabi_realloc or cabi_post) */
  _Atomic bool killed;
  void *owner;                  /* the Instance */
  spin_log *log;                /* its undo log; &idle when it has none */
  spin_log idle;                /* of the last commit: head and moved global */
} spin_guest;

enum { SPIN_BUSY = 1, SPIN_BROKEN = 2, SPIN_CLOSED = 4, SPIN_STALE = 8, SPIN_HELD = 16, SPIN_QUARANTINED = 32 };

/* Mark as running, while code of the host's runs in the middle of its call: raises mark nobody. Returns what `spin_mark_idle` takes. */
static inline uint32_t spin_mark_busy(spin_guest *guest) {
  uint32_t was = guest->state & SPIN_BUSY;
  guest->state |= SPIN_BUSY;
  return was;
}

static inline void spin_mark_idle(spin_guest *guest, uint32_t was) { guest->state = (guest->state & ~(uint32_t)SPIN_BUSY) | was; }

typedef struct {
  spin_guest *guest;
  uint32_t ticks;               /* deadline of this handler: its domain's, or the quantum of an ephemeral one */
  uint32_t ephemeral;
} spin_slot;

/* What an entry runs. */
typedef struct {
  const spin_slot *slots;
  const uint32_t *progress;
  void *rows;                   /* the rows that a flat raise walks, or NULL */
  void *dispatcher;             /* makes the Call when a host function first needs it; NULL: there is none to make */
  void *walk;                   /* the FlatWalk that goes through several rows; NULL: one runs */
} spin_what;

typedef struct spin_frame {
  struct spin_frame *outer;     /* of the same store */
  void *call;                   /* the running Call, or NULL; owned by whoever pushed the frame */
  struct spin_frame *below;     /* of the same thread, whatever the store: its time goes on too */
  const spin_what *what;        /* `own`, unless it outlives the frame */
  uint64_t seq;                 /* tells it from all others of the store; 0: nobody has asked yet */
  uint32_t seen;                /* handler whose clock runs, or SPIN_UNSEEN */
  uint32_t marked;              /* handler whose effects and touches in `call` begin at these marks, or SPIN_UNSEEN */
  int64_t mark, touch_mark;
  uint32_t settled;             /* the rows before this one have told `call` what they changed */
  uint64_t seen_tick, seen_cpu_ns;
  uint64_t looked_tick;         /* when a host call last looked at the clock */
  spin_what own;
} spin_frame;

typedef struct spin_state {
  spin_frame *frame;
  uint64_t seq;
  uint64_t generation;          /* of the store: what was looked up in an older one is looked up again */
  uint64_t version;             /* moves on whenever a function that a stub may hold has changed */
  uint64_t ready;               /* the same while nothing is held; else 0 */
  uintptr_t stack_low;          /* of the thread that owns the store, plus what a guest needs */
  uintptr_t stack_span;
  void *released;               /* thread state, while a long call runs without the GIL */
  uint32_t *stub_end;           /* where the running stub looks for the end of its walk, or NULL */
  uint32_t attention;           /* something waits for the end of what runs */
  uint32_t held;                /* instances with changes that are not committed */
  uint32_t ended;               /* why the last tick ended a call */
  int (*signalled)(struct spin_state *);    /* with the GIL held: run pending signal handlers, true if one raised */
  void (*sample)(struct spin_state *);      /* the profiler, or NULL */
  void *profile;                /* what it samples into */
  void *owner;                  /* the Store */
} spin_state;

static inline uint64_t spin_tick_now(void) { return atomic_load_explicit(&spin_ticker.tick, memory_order_relaxed); }

static uint64_t spin_cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What the thread entered last. */
static __thread spin_frame *spin_top __attribute__((tls_model("initial-exec")));

/* The clocks of all frames that no tick has met yet start now; the outer ones too, since their time goes on. */
static void spin_start_clocks(spin_frame *frame, uint64_t cpu_ns) {
  for (; frame != NULL && frame->seen != *frame->what->progress; frame = frame->below) {
    frame->seen = *frame->what->progress;
    frame->seen_tick = spin_tick_now();
    frame->seen_cpu_ns = cpu_ns;
  }
}

/* Whether a host call has to look at the clock: once a tick is enough. */
static inline bool spin_must_look(spin_frame *frame) {
  return frame->seen == *frame->what->progress && frame->looked_tick != spin_tick_now();
}

static bool spin_is_over(const spin_frame *frame, uint64_t cpu_ns) {
  uint64_t ticks = frame->what->slots[*frame->what->progress].ticks;
  if (frame->seen != *frame->what->progress) return false;
  return cpu_ns - frame->seen_cpu_ns >= ticks * SPIN_TICK_NS || spin_tick_now() - frame->seen_tick >= ticks * SPIN_WALL_FACTOR;
}

/* Let what runs be over at the next look. */
static inline void spin_make_late(spin_frame *frame) {
  frame->seen = *frame->what->progress;
  frame->seen_tick = spin_tick_now();
  frame->seen_cpu_ns = spin_cpu_ns() - (uint64_t)frame->what->slots[frame->seen].ticks * SPIN_TICK_NS;
  frame->looked_tick = 0;
}

/* Returns why what runs must end now, or SPIN_RUNS. */
static uint32_t spin_look(spin_state *state) {
  spin_frame *frame = state->frame, *outer;
  uint64_t cpu_ns;
  if (frame == NULL) return SPIN_RUNS;
  if (atomic_load_explicit(&frame->what->slots[*frame->what->progress].guest->killed, memory_order_relaxed)) return SPIN_ENDED_KILL;
  cpu_ns = spin_cpu_ns();
  spin_start_clocks(frame, cpu_ns);
  if (spin_is_over(frame, cpu_ns)) return SPIN_ENDED_DEADLINE;
  for (outer = frame->below; outer != NULL; outer = outer->below)
    if (spin_is_over(outer, cpu_ns)) return SPIN_ENDED_OUTER;
  if (state->released == NULL && state->signalled(state)) return SPIN_ENDED_SIGNAL;
  return SPIN_RUNS;
}

/* Whether the thread that runs now is the store's, and has room on its stack. */
static inline bool spin_may_enter(const spin_state *state) {
  char here;
  return (uintptr_t)&here - state->stack_low < state->stack_span;
}

static inline void spin_push(spin_state *state, spin_frame *frame, const spin_slot *slots, const uint32_t *progress, void *call) {
  frame->outer = state->frame;
  frame->call = call;
  frame->seq = 0;
  frame->below = spin_top;
  frame->what = &frame->own;
  frame->own.slots = slots;
  frame->own.progress = progress;
  frame->own.walk = NULL;
  frame->marked = SPIN_UNSEEN;
  frame->seen = SPIN_UNSEEN;
  state->frame = spin_top = frame;
}

/* The number of a frame, given when it is first asked for. */
static inline uint64_t spin_number(spin_state *state, spin_frame *frame) {
  if (frame->seq == 0) frame->seq = ++state->seq;
  return frame->seq;
}

/* A stub that runs ends behind the handler that it is at, and whoever started it looks what is to be done. */
static inline void spin_end_stub(spin_state *state) {
  if (state->stub_end != NULL) *state->stub_end = 0;
}

/* What the thread runs, or NULL. */
static inline spin_frame *spin_running(void) { return spin_top; }

static inline void spin_pop(spin_state *state, const spin_frame *frame) {
  state->frame = frame->outer;
  spin_top = frame->below;
}

/* Whether a guest has changed anything since the last commit. */
static inline bool spin_is_changed(const spin_guest *guest) { return guest->log->state != guest->idle.state; }

/* Make what a guest changed permanent: an empty log, which what is in it now does not belong to. False when the stamps have gone round. */
static inline bool spin_keep(spin_guest *guest) {
  spin_log *log = guest->log;
  log->at.head = guest->idle.at.head;
  guest->idle.state = log->state;
  log->bytes_head = log->functions_head = log->externs_head = log->bytes_next = 0;
  log->stamp += SPIN_STAMP_ONE;
  return log->stamp != 0;
}

/* The same for what a handler without calls leaves: records of stores, and not many. False, and nothing is done, when it may be more. */
__attribute__((noinline)) static bool spin_keep_stores(spin_guest *guest) {
  const spin_log *log = guest->log;
  if (guest->outside || log->at.head > SPIN_LOG_KEPT_BYTES || log->stamp + SPIN_STAMP_ONE == 0) return false;
  if (log->bytes_head | log->functions_head | log->externs_head | log->bytes_next) return false;
  return spin_keep(guest);
}

/* One more instance has changes that are not committed; one less. */
static inline void spin_hold(spin_state *state) {
  state->held++;
  state->ready = 0;
}

static inline void spin_let_go(spin_state *state) {
  if (--state->held == 0) state->ready = state->version;
}

/* A function that a stub may hold has changed. */
static inline void spin_new_version(spin_state *state) {
  state->version++;
  if (state->held == 0) state->ready = state->version;
  spin_end_stub(state);
}

#endif
