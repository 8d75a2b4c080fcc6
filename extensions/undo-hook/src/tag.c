/*
 * What a later undo needs of a delivery, as tags of its record. Nothing of the message's content is kept beside it: the
 * subject only as a hash, to recognise the message again.
 *
 *   message-id     the field's value, at most 998 bytes; no tag when the message has none
 *   subject-hash   FNV-1a of the Subject field, 64 bits, 16 hexadecimal digits; no tag when there is none
 *   envelope       lines name=value: format, delivery, protocol, peer, sender, size, recipients
 *   outcome.N      lines name=value for the Nth recipient: recipient, user, mailbox (repeated), flag (repeated),
 *                  refused (the reply code); `cut=1` ends what did not fit
 *
 * The format is 1. Recipients past OUTCOMES_MAX have no tag; `recipients` still counts them.
 */

#include "text.h"

enum {
  OUTCOMES_MAX = 48,
  MESSAGE_ID_BYTES_MAX = 998,
};

static const uint8_t HEX[] = "0123456789abcdef";

static void attach(spin_string_t key, spin_string_t value)
{
  /* A tag that the grant does not cover is left out: a delivery is worth more than its tags. */
  (void)undo_tags_tag(key, (spin_bytes_t){ value.ptr, value.len });
}

static void tag_message_id(mail_message_borrow_t message)
{
  spin_option_bytes_t found = mail_message_header(message, SPIN_STRING("Message-ID"), 0);
  if (!found.is_some || found.value.len == 0) return;
  size_t len = found.value.len < MESSAGE_ID_BYTES_MAX ? found.value.len : MESSAGE_ID_BYTES_MAX;
  attach(SPIN_STRING(KEY_MESSAGE_ID), (spin_string_t){ found.value.ptr, len });
  spin_trim(found.value.ptr);
}

static void tag_subject(mail_message_borrow_t message)
{
  spin_option_bytes_t found = mail_message_header(message, SPIN_STRING("Subject"), 0);
  if (!found.is_some) return;
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < found.value.len; i++) hash = (hash ^ found.value.ptr[i]) * UINT64_C(0x100000001b3);
  spin_trim(found.value.ptr);
  uint8_t digits[16];
  for (int i = 15; i >= 0; i--, hash >>= 4) digits[i] = HEX[hash & 15];
  attach(SPIN_STRING(KEY_SUBJECT_HASH), (spin_string_t){ digits, sizeof digits });
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

static void tag_envelope(const mail_envelope_receipt_t *receipt)
{
  text_t facts = text_new();
  text_append_fact(&facts, SPIN_STRING("format"), SPIN_STRING("1"));
  text_append_fact(&facts, SPIN_STRING("delivery"), text_clip(receipt->delivery_id, 256));
  text_append_fact(&facts, SPIN_STRING("protocol"), protocol_name(receipt->protocol));
  text_append_fact(&facts, SPIN_STRING("peer"), text_clip(receipt->peer, 256));
  text_append_fact(&facts, SPIN_STRING("sender"), text_clip(receipt->sender, 1024));
  text_append_fact(&facts, SPIN_STRING("size"), spin_decimal(receipt->size));
  text_append_fact(&facts, SPIN_STRING("recipients"), spin_decimal(receipt->outcomes.len));
  attach(SPIN_STRING(KEY_ENVELOPE), text_string(&facts));
}

static bool append_list(text_t *facts, spin_string_t name, spin_list_string_t list)
{
  for (size_t i = 0; i < list.len; i++)
    if (!text_append_fact(facts, name, list.ptr[i])) return false;
  return true;
}

static void tag_outcome(const mail_envelope_outcome_t *outcome, size_t number)
{
  text_t facts = text_new();
  text_t key = text_new();
  text_append(&key, SPIN_STRING(KEY_OUTCOME));
  text_append(&key, spin_decimal(number));
  text_append_fact(&facts, SPIN_STRING("recipient"), text_clip(outcome->recipient, 1024));
  text_append_fact(&facts, SPIN_STRING("user"), text_clip(outcome->user, 256));
  if (outcome->refused.is_some)
    text_append_fact(&facts, SPIN_STRING("refused"), spin_decimal(outcome->refused.value));
  bool whole = append_list(&facts, SPIN_STRING("mailbox"), outcome->mailboxes)
            && append_list(&facts, SPIN_STRING("flag"), outcome->flags);
  if (!whole) text_append_fact(&facts, SPIN_STRING("cut"), SPIN_STRING("1"));
  attach(text_string(&key), text_string(&facts));
}

void export_mail_delivery_events_filed(mail_envelope_receipt_t receipt, mail_message_borrow_t message)
{
  tag_message_id(message);
  tag_subject(message);
  tag_envelope(&receipt);
  size_t count = receipt.outcomes.len < OUTCOMES_MAX ? receipt.outcomes.len : OUTCOMES_MAX;
  for (size_t i = 0; i < count; i++) {
    uint8_t *mark = spin_alloc(0, 1);
    tag_outcome(&receipt.outcomes.ptr[i], i);
    spin_trim(mark);
  }
}
