/*
 * One record for each message, after all its recipients are decided.
 *
 * The record's fields are delivery, protocol, peer, sender, size, recipients, then one `outcome` for each recipient (the
 * first OUTCOMES_MAX of them; `outcomes-left-out` counts the rest), then the counters. The counters live in this
 * instance's memory and begin at zero with it; they count what was handled, also when the raise failed later on.
 */

#include "guest.h"

enum {
  OUTCOMES_MAX = 40,
  FIELDS_MAX = 16 + OUTCOMES_MAX,
  VALUE_BYTES_MAX = 1000,
};

static struct {
  uint64_t messages, bytes, recipients, filed, refused, discarded;
} counters;

typedef struct {
  logging_field_t fields[FIELDS_MAX];
  size_t count;
} record_t;

typedef struct {
  uint8_t *bytes;
  size_t len;
} text_t;

/* Cut at the start of a character, so that what is left is UTF-8 still. */
static spin_string_t clip(spin_string_t text, size_t bytes_max)
{
  size_t len = text.len < bytes_max ? text.len : bytes_max;
  while (len < text.len && len > 0 && (text.ptr[len] & 0xC0) == 0x80) len--;
  return (spin_string_t){ text.ptr, len };
}

static void add(record_t *record, spin_string_t name, spin_string_t value)
{
  if (record->count == FIELDS_MAX) return;
  record->fields[record->count++] = (logging_field_t){ name, clip(value, VALUE_BYTES_MAX) };
}

static void append(text_t *text, spin_string_t part)
{
  spin_string_t fitting = clip(part, VALUE_BYTES_MAX - text->len);
  memcpy(text->bytes + text->len, fitting.ptr, fitting.len);
  text->len += fitting.len;
}

static void append_list(text_t *text, spin_string_t heading, spin_list_string_t list)
{
  for (size_t i = 0; i < list.len; i++) {
    append(text, i == 0 ? heading : SPIN_STRING(", "));
    append(text, list.ptr[i]);
  }
}

static bool is_discarded(const mail_envelope_outcome_t *outcome)
{
  return !outcome->refused.is_some && outcome->mailboxes.len == 0;
}

/* `bob+news@example.org refused 550`, or `… discarded`, or `… filed INBOX, Archive flags $Label` */
static spin_string_t describe(const mail_envelope_outcome_t *outcome)
{
  text_t text = { .bytes = spin_alloc(VALUE_BYTES_MAX, 1) };
  append(&text, clip(outcome->recipient, VALUE_BYTES_MAX / 2));
  if (outcome->refused.is_some) {
    append(&text, SPIN_STRING(" refused "));
    append(&text, spin_decimal(outcome->refused.value));
  } else if (is_discarded(outcome)) {
    append(&text, SPIN_STRING(" discarded"));
  } else {
    append_list(&text, SPIN_STRING(" filed "), outcome->mailboxes);
    append_list(&text, SPIN_STRING(" flags "), outcome->flags);
  }
  return (spin_string_t){ text.bytes, text.len };
}

static void count(const mail_envelope_receipt_t *receipt)
{
  counters.messages++;
  counters.bytes += receipt->size;
  counters.recipients += receipt->outcomes.len;
  for (size_t i = 0; i < receipt->outcomes.len; i++) {
    const mail_envelope_outcome_t *outcome = &receipt->outcomes.ptr[i];
    if (outcome->refused.is_some) counters.refused++;
    else if (is_discarded(outcome)) counters.discarded++;
    else counters.filed++;
  }
}

static spin_string_t protocol_name(mail_envelope_protocol_t protocol)
{
  switch (protocol) {
    case MAIL_ENVELOPE_PROTOCOL_SMTP: return SPIN_STRING("smtp");
    case MAIL_ENVELOPE_PROTOCOL_LMTP: return SPIN_STRING("lmtp");
    case MAIL_ENVELOPE_PROTOCOL_IMAP: return SPIN_STRING("imap");
    default: return SPIN_STRING("local");
  }
}

static void add_counters(record_t *record)
{
  add(record, SPIN_STRING("total-messages"), spin_decimal(counters.messages));
  add(record, SPIN_STRING("total-bytes"), spin_decimal(counters.bytes));
  add(record, SPIN_STRING("total-recipients"), spin_decimal(counters.recipients));
  add(record, SPIN_STRING("total-filed"), spin_decimal(counters.filed));
  add(record, SPIN_STRING("total-refused"), spin_decimal(counters.refused));
  add(record, SPIN_STRING("total-discarded"), spin_decimal(counters.discarded));
}

void export_mail_delivery_events_filed(mail_envelope_receipt_t receipt, mail_message_borrow_t message)
{
  (void)message;
  record_t record = { .count = 0 };
  count(&receipt);
  add(&record, SPIN_STRING("delivery"), receipt.delivery_id);
  add(&record, SPIN_STRING("protocol"), protocol_name(receipt.protocol));
  add(&record, SPIN_STRING("peer"), receipt.peer);
  add(&record, SPIN_STRING("sender"), receipt.sender);
  add(&record, SPIN_STRING("size"), spin_decimal(receipt.size));
  add(&record, SPIN_STRING("recipients"), spin_decimal(receipt.outcomes.len));
  size_t shown = receipt.outcomes.len < OUTCOMES_MAX ? receipt.outcomes.len : OUTCOMES_MAX;
  for (size_t i = 0; i < shown; i++) add(&record, SPIN_STRING("outcome"), describe(&receipt.outcomes.ptr[i]));
  if (shown < receipt.outcomes.len)
    add(&record, SPIN_STRING("outcomes-left-out"), spin_decimal(receipt.outcomes.len - shown));
  add_counters(&record);
  logging_write(LOGGING_LEVEL_INFO, SPIN_STRING("delivery"),
                (spin_list_logging_field_t){ record.fields, record.count });
}
