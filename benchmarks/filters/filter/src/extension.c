/* The filter as an extension: reads on demand, answers with an effect. */

#include "guest.h"
#include "filter.h"

#define NAME(text) { (uint8_t *)text, sizeof text - 1 }

static const spin_string_t NAMES[FILTER_FIELDS] = {
  [FILTER_FROM] = NAME("From"),
  [FILTER_SUBJECT] = NAME("Subject"),
  [FILTER_LIST_ID] = NAME("List-Id"),
  [FILTER_PRIORITY] = NAME("X-Priority"),
};

mail_delivery_events_verdict_t export_mail_delivery_events_deliver(
    mail_envelope_t envelope, mail_message_borrow_t message)
{
  (void)envelope;
  filter_input_t input = { 0 };
  for (size_t i = 0; i < FILTER_FIELDS; i++) {
    spin_option_bytes_t found = mail_message_header(message, NAMES[i], 0);
    if (found.is_some) input.fields[i] = (filter_bytes_t){ found.value.ptr, found.value.len };
  }
  spin_bytes_t body = mail_message_read(message, mail_message_body_offset(message), FILTER_BODY_BYTES_MAX);
  input.body = (filter_bytes_t){ body.ptr, body.len };
  char answer[FILTER_ANSWER_BYTES_MAX];
  size_t length = filter_decide(&input, answer);
  mail_delivery_add_header(SPIN_STRING(FILTER_HEADER), (spin_string_t){ (uint8_t *)answer, length });
  return MAIL_DELIVERY_EVENTS_VERDICT_PASS;
}
