/*
 * What an undo does about users. The rules, in order:
 *
 * before-rewind   A cycle needs a reason that a person wrote, a range that does not run backwards, and, unless it is about
 *                 the whole system, the name of the user or mailbox that it is about. Anything else is vetoed.
 * inconsistency   stop        the verb lies outside the cycle's range, or the cycle has needed more than
 *                             COMPENSATIONS_MAX compensations already: something is wrong that no policy foresaw
 *                 ignore      the user was shown nothing, or is shown the same now
 *                 compensate  the user was shown something that is not there any more
 *                 explain     it is there, but elsewhere or different
 * compensate      A notice in the user's words: what was seen, why it went, and how the message is called, so that it can
 *                 be asked for. An error when there is nothing to tell it by.
 * after-replay    One record of how the cycle ended; a warning when users were affected.
 */

#include "text.h"

enum {
  COMPENSATIONS_MAX = 10000,
  SHOWN_BYTES_MAX = 512,    /* of one thing quoted in a notice */
};

static struct {
  uint64_t cycle;
  uint64_t compensations;
} running;

static spin_result_void_string_t veto(spin_string_t why)
{
  return (spin_result_void_string_t){ .is_err = true, .err = why };
}

spin_result_void_string_t export_undo_events_before_rewind(undo_events_cycle_t cycle)
{
  if (text_blank(cycle.reason)) return veto(SPIN_STRING("the cycle has no reason: users would be told none"));
  if (cycle.from_position > cycle.to_position) return veto(SPIN_STRING("the cycle's range runs backwards"));
  if (cycle.sphere != UNDO_EVENTS_SPHERE_SYSTEM && text_blank(cycle.subject))
    return veto(SPIN_STRING("the cycle is about one user or mailbox and does not name it"));
  running.cycle = cycle.id;
  running.compensations = 0;
  return (spin_result_void_string_t){ .is_err = false };
}

static bool outside(const undo_events_cycle_t *cycle, uint64_t position)
{
  return position < cycle->from_position || position > cycle->to_position;
}

/* An instance may be younger than the cycle: the count then starts when it first hears of it. */
static bool too_many(const undo_events_cycle_t *cycle)
{
  if (running.cycle != cycle->id) {
    running.cycle = cycle->id;
    running.compensations = 0;
  }
  return running.compensations++ >= COMPENSATIONS_MAX;
}

undo_events_resolution_t export_undo_events_inconsistency(
    undo_events_cycle_t cycle, undo_events_difference_t difference)
{
  if (outside(&cycle, difference.verb.position)) return UNDO_EVENTS_RESOLUTION_STOP;
  if (text_blank(difference.shown) || spin_equal(difference.shown, difference.now))
    return UNDO_EVENTS_RESOLUTION_IGNORE;
  if (!text_blank(difference.now)) return UNDO_EVENTS_RESOLUTION_EXPLAIN;
  return too_many(&cycle) ? UNDO_EVENTS_RESOLUTION_STOP : UNDO_EVENTS_RESOLUTION_COMPENSATE;
}

static bool find_tag(const undo_events_verb_t *verb, spin_string_t key, spin_string_t *value)
{
  for (size_t i = 0; i < verb->tags.len; i++) {
    if (!spin_equal(verb->tags.ptr[i].key, key)) continue;
    *value = (spin_string_t){ verb->tags.ptr[i].value.ptr, verb->tags.ptr[i].value.len };
    return value->len != 0;
  }
  return false;
}

/* A tag's value is bytes of a message and may be anything; a notice is text. */
static void append_ascii(text_t *text, spin_string_t bytes)
{
  spin_string_t part = { bytes.ptr, bytes.len < SHOWN_BYTES_MAX ? bytes.len : SHOWN_BYTES_MAX };
  for (size_t i = 0; i < part.len && text->len < TEXT_BYTES_MAX; i++) {
    uint8_t byte = part.ptr[i];
    text->bytes[text->len++] = byte < ' ' || byte >= 127 ? '?' : byte;
  }
}

spin_result_string_string_t export_undo_events_compensate(
    undo_events_cycle_t cycle, undo_events_difference_t difference)
{
  spin_string_t id;
  bool known = find_tag(&difference.verb, SPIN_STRING(KEY_MESSAGE_ID), &id);
  if (!known && text_blank(difference.shown))
    return (spin_result_string_string_t){
      .is_err = true, .err = SPIN_STRING("nothing is known of what the user was shown") };
  text_t notice = text_new();
  text_append(&notice, SPIN_STRING("What you saw as \""));
  text_append(&notice, text_clip(difference.shown, SHOWN_BYTES_MAX));
  text_append(&notice, SPIN_STRING("\" is no longer there. The operator undid a change: "));
  text_append(&notice, text_clip(cycle.reason, SHOWN_BYTES_MAX));
  text_append(&notice, SPIN_STRING("."));
  if (known) {
    text_append(&notice, SPIN_STRING(" The message is "));
    append_ascii(&notice, id);
    text_append(&notice, SPIN_STRING("."));
  }
  return (spin_result_string_string_t){ .is_err = false, .ok = text_string(&notice) };
}

void export_undo_events_after_replay(undo_events_summary_t summary)
{
  logging_field_t fields[] = {
    { SPIN_STRING("cycle"), spin_decimal(summary.cycle.id) },
    { SPIN_STRING("replayed"), spin_decimal(summary.replayed) },
    { SPIN_STRING("inconsistencies"), spin_decimal(summary.inconsistencies) },
    { SPIN_STRING("compensated"), spin_decimal(summary.compensated) },
    { SPIN_STRING("reason"), text_clip(summary.cycle.reason, SHOWN_BYTES_MAX) },
  };
  logging_level_t level = summary.inconsistencies != 0 ? LOGGING_LEVEL_WARNING : LOGGING_LEVEL_INFO;
  logging_write(level, SPIN_STRING("undo"),
                (spin_list_logging_field_t){ fields, sizeof fields / sizeof fields[0] });
}
