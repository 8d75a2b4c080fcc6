/* The raise of one handler without guards, which is the everyday one, from Python and from Cython.
 *
 * All that it needs is looked up beforehand (`spin_single`) and holds until the store's `version` moves on. Whatever is not as it
 * was then, or is not everyday, leaves this path by one of the functions of `spin_ways`, which know all cases. They are called
 * through pointers so that no compiler makes room for them on this path.
 */
#ifndef SPINRT_QUICK_H
#define SPINRT_QUICK_H

#include <Python.h>

#include "frame.h"

#define SPIN_SCALARS_MAX 16
#define SPIN_RAW_MAX 20
#define SPIN_SMALL_INTS 257     /* 0 to 256: the interpreter keeps one object of each */
#define SPIN_LIKELY(condition) __builtin_expect(!!(condition), 1)

/* The one handler of an event, looked up for the version of its store that `version` names. */
typedef struct {
  uint64_t version;             /* 0: it was not looked up yet */
  uint64_t walks;               /* raises in which all rows ran, counted once for all of them */
  spin_state *state;
  spin_context *context;
  spin_func function;
  spin_guest *guest;
  spin_what what;
  spin_frame frame;             /* while it runs as all that runs on its thread; in between as `spin_prepare` leaves it … */
  spin_trap *trap;              /* … and NULL */
  spin_raw raw[SPIN_RAW_MAX];   /* arguments from Python, then the result */
} spin_single;

/* The integers that a parameter takes: `count` of them from `low` on; of any other kind none. */
typedef struct { int64_t low; uint64_t count; } spin_scalar;

/* The results of which there is an object already: those whose number is below `limit`. */
typedef struct {
  PyObject *const *objects;
  uint32_t limit;
  bool none;                    /* the event has no result */
} spin_kept;

/* The part of an event's dispatcher that such a raise looks at. */
typedef struct {
  spin_single *single;          /* NULL: a raise is more than that */
  Py_ssize_t count;             /* of the parameters; then no number of arguments is this one */
  spin_kept result;
  uint64_t sample_at;           /* the one of its `walks` that is timed */
  spin_scalar scalars[SPIN_SCALARS_MAX];
} spin_quick;

/* One run of a handler, and how it ended. */
typedef struct {
  spin_frame *frame;
  spin_guest *guest;            /* another one may have its place by the end */
  spin_error *error;
  spin_trap *trap;
} spin_run;

typedef PyObject spin_event;    /* a Dispatcher */

/* The ways that know all cases. What they return is a new reference; or NULL, or -1, with an error set. */
static struct spin_all_ways {
  spin_error *(*call)(spin_context *, const spin_func *, spin_raw *, size_t, spin_trap **);
  PyObject *(*raise)(spin_event *, PyObject **arguments, Py_ssize_t count);
  PyObject *(*lift)(spin_event *, uint64_t bits);
  int (*end)(const spin_run *run, spin_raw *raw);    /* 1: the result stands; 0: the handler failed with the arguments in `raw` */
  PyObject *(*on_nothing)(spin_event *);
} spin_ways;

static PyObject *spin_small_ints[SPIN_SMALL_INTS];
static PyObject *spin_bools[2];

static int spin_keep_results(void) {
  long value;
  for (value = 0; value < SPIN_SMALL_INTS; value++)
    if ((spin_small_ints[value] = PyLong_FromLong(value)) == NULL) return -1;
  spin_bools[0] = Py_NewRef(Py_False);
  spin_bools[1] = Py_NewRef(Py_True);
  return 0;
}

/* The value of an integer of one digit; false for everything else. */
static inline bool spin_compact(PyObject *value, int64_t *found) {
  if (!SPIN_LIKELY(PyLong_CheckExact(value))) return false;
#if PY_VERSION_HEX >= 0x030C0000
  if (!SPIN_LIKELY(PyUnstable_Long_IsCompact((PyLongObject *)value))) return false;
  *found = PyUnstable_Long_CompactValue((PyLongObject *)value);
#else
  if (!SPIN_LIKELY((size_t)(Py_SIZE(value) + 1) <= 2)) return false;
  *found = Py_SIZE(value) * (int64_t)((PyLongObject *)value)->ob_digit[0];
#endif
  return true;
}

static inline bool spin_lower_compact(const spin_scalar *scalar, PyObject *value, spin_raw *raw) {
  int64_t found;
  if (!SPIN_LIKELY(spin_compact(value, &found) && (uint64_t)found - (uint64_t)scalar->low < scalar->count)) return false;
  raw->i64 = found;
  return true;
}

/* Whether the handler may be run at once: nothing runs on its thread, no transaction of its store is open, and the raise is not
 * one that is timed. Nothing else keeps an instance from being entered without a new version of its store. */
static inline bool spin_is_ready(const spin_quick *quick) {
  const spin_single *single = quick->single;
  const spin_state *state = single->state;
  return single->version == state->ready && spin_may_enter(state) && spin_top == NULL && single->walks + 1 < quick->sample_at;
}

/* It is counted then. */
static inline bool spin_begin(spin_quick *quick) {
  if (!SPIN_LIKELY(spin_is_ready(quick))) return false;
  quick->single->walks++;
  return true;
}

/* A single's frame: nothing is outside of it, and nobody has looked at it. Only with a call has it marks (`spin_is_done`). */
static void spin_prepare(spin_single *single) {
  single->frame.outer = single->frame.below = NULL;
  single->frame.call = NULL;
  single->frame.seq = 0;
  single->frame.settled = 0;
  single->frame.seen = single->frame.marked = SPIN_UNSEEN;
  single->frame.what = &single->what;
  single->trap = NULL;
}

/* Whether a frame is as `spin_prepare` left it: no tick met it, and no host function had to tell it from others. */
static inline bool spin_is_unseen(const spin_frame *frame) { return !(frame->seq | (uint32_t)~frame->seen); }

/* Whether it did not fail, no call was made for it, and nothing waits for the end. */
static inline bool spin_is_alone(spin_run run, const spin_state *state) {
  return !((uintptr_t)run.error | (uintptr_t)run.trap | (uintptr_t)run.frame->call | state->attention);
}

/* Whether nothing is left to do: it did not change anything either. */
static inline bool spin_is_done(spin_run run, const spin_state *state) { return spin_is_alone(run, state) && !spin_is_changed(run.guest); }

/* The same for a run as all that runs on its thread: what it changed, and nobody saw, is made permanent if that is simple. */
static inline bool spin_settle(spin_run run, const spin_state *state) {
  if (!SPIN_LIKELY(spin_is_alone(run, state) && spin_is_unseen(run.frame))) return false;
  return SPIN_LIKELY(!spin_is_changed(run.guest)) || spin_keep_stores(run.guest);
}

/* Run what `spin_begin` found ready. */
static inline spin_run spin_run_begun(spin_single *single, spin_state *state, spin_raw *raw) {
  spin_run run = {.frame = &single->frame, .guest = single->guest};
  spin_ticker_touch();
  state->frame = spin_top = run.frame;
  run.error = spin_ways.call(single->context, &single->function, raw, SPIN_RAW_MAX, &single->trap);
  run.trap = single->trap;
  state->frame = spin_top = NULL;
  return run;
}

/* Behind a run that was more than everyday: 1, 0 or -1 as `spin_ways.end`. What that calls may raise the event again, which has the single then. */
__attribute__((noinline, cold)) static int spin_end(spin_single *single, spin_state *state, spin_guest *guest, spin_error *error, spin_raw *raw) {
  spin_frame frame = single->frame;
  spin_run run = {&frame, guest, error, single->trap};
  spin_prepare(single);
  return spin_is_done(run, state) ? 1 : spin_ways.end(&run, raw);
}

__attribute__((noinline, cold)) static PyObject *spin_lift_any(const spin_quick *quick, spin_event *event, uint64_t bits) {
  return quick->result.none ? Py_NewRef(Py_None) : spin_ways.lift(event, bits);
}

/* Reads no more bytes than the engine wrote: the processor would wait until they are in the cache. */
static inline PyObject *spin_lift(const spin_quick *quick, spin_event *event, const spin_raw *raw) {
  uint32_t number = raw->u32;
  if (SPIN_LIKELY(number < quick->result.limit)) return Py_NewRef(quick->result.objects[number]);
  return spin_lift_any(quick, event, raw->u64);
}

/* The same for values from Python. */
__attribute__((noinline, cold)) static PyObject *spin_finish(spin_quick *quick, spin_event *event, spin_single *single, spin_state *state, spin_guest *guest, spin_error *error) {
  spin_raw raw[SPIN_RAW_MAX];
  int ran;
  memcpy(raw, single->raw, sizeof(raw));
  ran = spin_end(single, state, guest, error, raw);
  if (ran > 0) return spin_lift(quick, event, raw);
  return ran < 0 ? NULL : spin_ways.on_nothing(event);
}

/* What is more than everyday from the start. Cold, so that the everyday raise is laid out in a row. */
__attribute__((noinline, cold)) static PyObject *spin_raise_any(spin_event *event, PyObject **arguments, Py_ssize_t count) {
  return spin_ways.raise(event, arguments, count);
}

__attribute__((noinline, cold)) static PyObject *spin_raise_any_one(spin_event *event, PyObject *argument) {
  return spin_ways.raise(event, &argument, 1);
}

/* With the arguments in `single->raw`. It is the stores that take time here, so what can lie ready does. The last calls of all ways
 * out of it need nothing of its frame, which makes that cheap to set up. */
__attribute__((always_inline)) static inline PyObject *spin_raise_ready(spin_quick *quick, spin_event *event, spin_single *single, spin_state *state) {
  spin_run run;
  single->walks++;
  run = spin_run_begun(single, state, single->raw);
  if (!SPIN_LIKELY(spin_settle(run, state))) return spin_finish(quick, event, single, state, run.guest, run.error);
  return spin_lift(quick, event, single->raw);
}

/* Raise with Python values. */
__attribute__((always_inline)) static inline PyObject *spin_raise(spin_quick *quick, spin_event *event, PyObject **arguments, Py_ssize_t count) {
  spin_single *single;
  Py_ssize_t at;
  if (!SPIN_LIKELY(count == quick->count && spin_is_ready(quick))) return spin_raise_any(event, arguments, count);
  single = quick->single;
  for (at = 0; at < count; at++)
    if (!spin_lower_compact(&quick->scalars[at], arguments[at], &single->raw[at])) return spin_raise_any(event, arguments, count);
  return spin_raise_ready(quick, event, single, single->state);
}

/* Raise an event of one parameter with a Python value: the interpreter calls a C function of one argument in the shortest way. */
__attribute__((always_inline)) static inline PyObject *spin_raise_one(spin_quick *quick, spin_event *event, PyObject *argument) {
  spin_single *single = quick->single;
  if (!SPIN_LIKELY(single != NULL && spin_is_ready(quick) && spin_lower_compact(&quick->scalars[0], argument, &single->raw[0]))) return spin_raise_any_one(event, argument);
  return spin_raise_ready(quick, event, single, single->state);
}

/* Raise with lowered arguments; 1: the result is in `raw`, 0: the handler failed, -1: so did whoever was told. */
static inline int spin_raise_begun(spin_quick *quick, spin_raw *raw) {
  spin_single *single = quick->single;
  spin_state *state = single->state;
  spin_run run = spin_run_begun(single, state, raw);
  return SPIN_LIKELY(spin_settle(run, state)) ? 1 : spin_end(single, state, run.guest, run.error, raw);
}

#endif
