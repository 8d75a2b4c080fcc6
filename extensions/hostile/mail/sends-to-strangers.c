/* `handled` says that one of these was taken. */

#include "guest.h"

mail_delivery_events_verdict_t export_mail_delivery_events_deliver(mail_envelope_t envelope, mail_message_borrow_t message)
{
  (void)envelope, (void)message;
  uint32_t taken = 0;
  taken += !mail_outbound_redirect(SPIN_STRING("a@example.org\r\nRCPT TO:<b@example.net>")).is_err;
  taken += !mail_outbound_redirect(SPIN_STRING("a@example.net")).is_err;
  taken += !mail_outbound_redirect(SPIN_STRING("a@example.net, b@example.org")).is_err;
  taken += !mail_outbound_redirect(SPIN_STRING("<a@example.org> ORCPT=rfc822;x@example.org")).is_err;
  taken += !mail_outbound_redirect(SPIN_STRING("a@example.net\0@example.org")).is_err;
  taken += !mail_outbound_redirect(SPIN_STRING("")).is_err;
  taken += !mail_outbound_notify(SPIN_STRING("a@example.org"), SPIN_STRING("x\r\nBcc: y"), SPIN_STRING("text")).is_err;
  return taken ? MAIL_DELIVERY_EVENTS_VERDICT_HANDLED : MAIL_DELIVERY_EVENTS_VERDICT_PASS;
}
