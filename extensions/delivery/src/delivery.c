/*
 * Delivery by rules. The rules are parsed once, before the first event; a message then costs one host call for each
 * header field that a rule comes to need, and one for each action.
 *
 * When the host refuses an action (a mailbox that is not granted, say), the action has not happened and the rules go on;
 * when nothing decided where the message goes, the answer is `pass`, and it goes to INBOX as if there were no rules.
 */

#include "rules.h"

/* Used when the operator's configuration has no rules. */
#define DEFAULT_RULES \
  "header X-Spam-Flag is YES -> file Junk; stop\n" \
  "list exists -> file 'INBOX/lists/${list}'; stop\n" \
  "detail exists -> file 'INBOX/${detail}'; stop\n"

static rules_t rules;

/* The message in hand, and what was read of it. Header values live in the arena until the event is over. */
typedef struct {
  const mail_envelope_t *envelope;
  mail_message_borrow_t message;
  bool size_known;
  uint64_t size;
  uint8_t value_count[FIELDS_MAX];    /* fields read so far + 1; 0: not read */
  spin_string_t values[FIELDS_MAX][OCCURRENCES_MAX];
} subject_data_t;

static subject_data_t data;

spin_result_void_string_t export_extension_lifecycle_init(void)
{
  spin_option_string_t text = extension_config_get(SPIN_STRING("rules"));
  spin_string_t problem = rules_parse(&rules, text.is_some ? text.value : SPIN_STRING(DEFAULT_RULES));
  if (problem.len != 0) return (spin_result_void_string_t){ .is_err = true, .err = problem };
  return (spin_result_void_string_t){ .is_err = false };
}

/* What rules look at */

static uint8_t read_field(uint16_t field)
{
  if (data.value_count[field] == 0) {
    uint8_t count = 0;
    while (count < OCCURRENCES_MAX) {
      spin_option_bytes_t found = mail_message_header(data.message, rules.fields[field], count);
      if (!found.is_some) break;
      size_t len = found.value.len < VALUE_BYTES_MAX ? found.value.len : VALUE_BYTES_MAX;
      spin_trim(found.value.ptr + len);
      data.values[field][count++] = (spin_string_t){ found.value.ptr, len };
    }
    data.value_count[field] = (uint8_t)(count + 1);
  }
  return (uint8_t)(data.value_count[field] - 1);
}

static uint64_t message_size(void)
{
  if (!data.size_known) {
    data.size = mail_message_size(data.message);
    data.size_known = true;
  }
  return data.size;
}

static bool list_id(spin_string_t *id)
{
  if (read_field(rules.list_field) == 0) return false;
  *id = text_in_brackets(data.values[rules.list_field][0]);
  return id->len != 0;
}

/* Conditions */

static bool text_passes(const condition_t *condition, spin_string_t text)
{
  switch (condition->test) {
    case TEST_IS: return text_is(text, condition->text);
    case TEST_CONTAINS: return text_contains(text, condition->text);
    case TEST_MATCHES: return text_matches(text, condition->text);
    default: return true;
  }
}

static bool header_passes(const condition_t *condition)
{
  uint8_t count = read_field(condition->field);
  for (uint8_t i = 0; i < count; i++)
    if (text_passes(condition, data.values[condition->field][i])) return true;
  return false;
}

static bool envelope_passes(const condition_t *condition, spin_string_t text)
{
  return condition->test == TEST_EXISTS ? text.len != 0 : text_passes(condition, text);
}

static bool holds(const condition_t *condition)
{
  spin_string_t id;
  switch (condition->subject) {
    case SUBJECT_ALWAYS: return true;
    case SUBJECT_SIZE:
      return condition->test == TEST_OVER ? message_size() > condition->size : message_size() < condition->size;
    case SUBJECT_HEADER: return header_passes(condition);
    case SUBJECT_LIST: return list_id(&id) && text_passes(condition, id);
    case SUBJECT_DETAIL:
      return data.envelope->detail.is_some && envelope_passes(condition, data.envelope->detail.value);
    case SUBJECT_SENDER: return envelope_passes(condition, data.envelope->sender);
    case SUBJECT_RECIPIENT: return envelope_passes(condition, data.envelope->recipient);
    case SUBJECT_USER: return envelope_passes(condition, data.envelope->user);
  }
  return false;
}

static bool rule_holds(const rule_t *rule)
{
  for (uint16_t i = rule->condition_start; i < rule->condition_end; i++)
    if (holds(&rules.conditions[i]) == rules.conditions[i].negated) return false;
  return true;
}

/* Actions */

static bool append_substitution(buffer_t *buffer, spin_string_t name)
{
  spin_string_t id;
  if (spin_equal(name, SPIN_STRING("detail"))) {
    if (!data.envelope->detail.is_some || data.envelope->detail.value.len == 0) return false;
    buffer_append_safe(buffer, data.envelope->detail.value);
    return true;
  }
  if (!list_id(&id)) return false;
  if (spin_equal(name, SPIN_STRING("list"))) id = text_first_label(id);
  if (id.len == 0) return false;
  buffer_append_safe(buffer, id);
  return true;
}

/* False when something that is to be put in is not there, or the result is too long: the action is left out then. */
static bool substitute(buffer_t *buffer, spin_string_t text)
{
  size_t start = 0;
  *buffer = (buffer_t){ 0 };
  for (size_t i = 0; i + 1 < text.len; i++) {
    if (text.ptr[i] != '$' || text.ptr[i + 1] != '{') continue;
    size_t end = i + 2;
    while (text.ptr[end] != '}') end++;    /* the parser saw to it that there is one */
    buffer_append(buffer, (spin_string_t){ text.ptr + start, i - start });
    if (!append_substitution(buffer, (spin_string_t){ text.ptr + i + 2, end - i - 2 })) return false;
    start = end + 1;
    i = end;
  }
  buffer_append(buffer, (spin_string_t){ text.ptr + start, text.len - start });
  return !buffer->overflow;
}

static bool add_header(const action_t *action)
{
  buffer_t value;
  if (!substitute(&value, action->text)) return false;
  return !mail_delivery_add_header(action->name, (spin_string_t){ value.bytes, value.len }).is_err;
}

static bool file_into(const action_t *action)
{
  buffer_t mailbox;
  if (!substitute(&mailbox, action->text)) return false;
  return !mail_delivery_file_into((spin_string_t){ mailbox.bytes, mailbox.len }).is_err;
}

static bool perform(const action_t *action)
{
  switch (action->kind) {
    case ACTION_FILE: return file_into(action);
    case ACTION_FLAG: return !mail_delivery_set_flag(action->text).is_err;
    case ACTION_HEADER: return add_header(action);
    case ACTION_REJECT: return !mail_delivery_reject(action->code, action->text).is_err;
    case ACTION_DISCARD: return !mail_delivery_discard().is_err;
    case ACTION_STOP: return false;
  }
  return false;
}

/* A refusal or a discard that took effect leaves nothing for later rules to do. */
static bool ends(const action_t *action, bool done)
{
  return action->kind == ACTION_STOP || (done && (action->kind == ACTION_REJECT || action->kind == ACTION_DISCARD));
}

/* Flags and header fields say nothing of where the message goes. */
static bool decides(const action_t *action)
{
  return action->kind == ACTION_FILE || action->kind == ACTION_REJECT || action->kind == ACTION_DISCARD;
}

mail_delivery_events_verdict_t export_mail_delivery_events_deliver(
    mail_envelope_t envelope, mail_message_borrow_t message)
{
  data.envelope = &envelope;
  data.message = message;
  data.size_known = false;
  memset(data.value_count, 0, rules.field_count);
  bool decided = false;
  for (uint16_t i = 0; i < rules.rule_count; i++) {
    const rule_t *rule = &rules.rules[i];
    if (!rule_holds(rule)) continue;
    for (uint16_t j = rule->action_start; j < rule->action_end; j++) {
      bool done = perform(&rules.actions[j]);
      decided = decided || (done && decides(&rules.actions[j]));
      if (ends(&rules.actions[j], done))
        return decided ? MAIL_DELIVERY_EVENTS_VERDICT_HANDLED : MAIL_DELIVERY_EVENTS_VERDICT_PASS;
    }
  }
  return decided ? MAIL_DELIVERY_EVENTS_VERDICT_HANDLED : MAIL_DELIVERY_EVENTS_VERDICT_PASS;
}
