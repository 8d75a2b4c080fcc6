/*
 * The filter as a milter, as a careful author writes one for Postfix: it switches off every callback that it does not
 * need, sends no reply to header fields, and skips the body behind what it looks at.
 *
 *   milter SOCKET TALLY_FILE
 */

#include <libmilter/mfapi.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "filter.h"
#include "tally.h"

typedef struct {
  filter_input_t input;
  uint8_t fields[FILTER_FIELDS][FILTER_FIELD_BYTES_MAX];
  uint8_t body[FILTER_BODY_BYTES_MAX];
} message_t;

static unsigned long offered;   /* steps of the protocol; one mail server, so they are the same for all connections */

static message_t *message_of(SMFICTX *context)
{
  message_t *message = smfi_getpriv(context);
  if (message == NULL && (message = calloc(1, sizeof *message)) != NULL) smfi_setpriv(context, message);
  return message;
}

static void begin_again(SMFICTX *context)
{
  message_t *message = smfi_getpriv(context);
  if (message != NULL) memset(&message->input, 0, sizeof message->input);
}

static size_t copy_without_line_ends(uint8_t *to, const char *from)
{
  size_t length = 0;
  for (; *from != 0 && length < FILTER_FIELD_BYTES_MAX; from++)
    if (*from != '\r' && *from != '\n') to[length++] = (uint8_t)*from;
  return length;
}

static sfsistat on_negotiate(SMFICTX *context, unsigned long actions, unsigned long steps, unsigned long unused_2,
                             unsigned long unused_3, unsigned long *actions_wanted, unsigned long *steps_wanted,
                             unsigned long *wanted_2, unsigned long *wanted_3)
{
  (void)context, (void)actions, (void)unused_2, (void)unused_3;
  unsigned long wanted = SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NOMAIL | SMFIP_NORCPT | SMFIP_NODATA | SMFIP_NOEOH
                       | SMFIP_NOUNKNOWN | SMFIP_NR_HDR | SMFIP_SKIP;
  offered = wanted & steps;
  *actions_wanted = SMFIF_ADDHDRS;
  *steps_wanted = offered;
  *wanted_2 = *wanted_3 = 0;
  return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *context, char *name, char *value)
{
  message_t *message = message_of(context);
  if (message == NULL) return SMFIS_TEMPFAIL;
  for (size_t i = 0; i < FILTER_FIELDS; i++) {
    if (message->input.fields[i].ptr != NULL || strcasecmp(name, filter_names[i]) != 0) continue;
    size_t length = copy_without_line_ends(message->fields[i], value);
    message->input.fields[i] = (filter_bytes_t){ message->fields[i], length };
  }
  return offered & SMFIP_NR_HDR ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_body(SMFICTX *context, unsigned char *bytes, size_t length)
{
  message_t *message = message_of(context);
  if (message == NULL) return SMFIS_TEMPFAIL;
  filter_bytes_t *body = &message->input.body;
  size_t room = FILTER_BODY_BYTES_MAX - body->len, taken = length < room ? length : room;
  memcpy(message->body + body->len, bytes, taken);
  *body = (filter_bytes_t){ message->body, body->len + taken };
  return body->len == FILTER_BODY_BYTES_MAX && offered & SMFIP_SKIP ? SMFIS_SKIP : SMFIS_CONTINUE;
}

static sfsistat on_end_of_message(SMFICTX *context)
{
  message_t *message = message_of(context);
  if (message == NULL) return SMFIS_TEMPFAIL;
  char answer[FILTER_ANSWER_BYTES_MAX];
  filter_decide(&message->input, answer);
  atomic_fetch_add(&tally_messages, 1);
  if (answer[0] == 's') atomic_fetch_add(&tally_suspects, 1);
  begin_again(context);
  return smfi_addheader(context, FILTER_HEADER, answer) == MI_SUCCESS ? SMFIS_CONTINUE : SMFIS_TEMPFAIL;
}

static sfsistat on_abort(SMFICTX *context)
{
  begin_again(context);
  return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *context)
{
  free(smfi_getpriv(context));
  smfi_setpriv(context, NULL);
  return SMFIS_CONTINUE;
}

int main(int count, char **arguments)
{
  struct smfiDesc description = {
    .xxfi_name = "filter",
    .xxfi_version = SMFI_VERSION,
    .xxfi_flags = SMFIF_ADDHDRS,
    .xxfi_header = on_header,
    .xxfi_body = on_body,
    .xxfi_eom = on_end_of_message,
    .xxfi_abort = on_abort,
    .xxfi_close = on_close,
    .xxfi_negotiate = on_negotiate,
  };
  if (count != 3) return 2;
  umask(0);   /* Postfix, which has an account of its own, must reach the socket */
  if (smfi_setconn(arguments[1]) != MI_SUCCESS || smfi_register(description) != MI_SUCCESS) return 1;
  int code = smfi_main();
  return tally_write(arguments[2]) == 0 ? code : 1;
}
