/*
 * A milter that does nothing, for every callback that there is: what the protocol costs a filter that wants to see all
 * of a message, whatever it then does with it.
 *
 *   noop_milter SOCKET TALLY_FILE
 */

#include <libmilter/mfapi.h>
#include <sys/stat.h>

#include "tally.h"

static sfsistat on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address)
{
  (void)context, (void)host, (void)address;
  return SMFIS_CONTINUE;
}

static sfsistat on_text(SMFICTX *context, char *text)
{
  (void)context, (void)text;
  return SMFIS_CONTINUE;
}

static sfsistat on_unknown(SMFICTX *context, const char *command)
{
  (void)context, (void)command;
  return SMFIS_CONTINUE;
}

static sfsistat on_address(SMFICTX *context, char **arguments)
{
  (void)context, (void)arguments;
  return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *context, char *name, char *value)
{
  (void)context, (void)name, (void)value;
  return SMFIS_CONTINUE;
}

static sfsistat on_body(SMFICTX *context, unsigned char *bytes, size_t length)
{
  (void)context, (void)bytes, (void)length;
  return SMFIS_CONTINUE;
}

static sfsistat on_nothing(SMFICTX *context)
{
  (void)context;
  return SMFIS_CONTINUE;
}

static sfsistat on_end_of_message(SMFICTX *context)
{
  (void)context;
  atomic_fetch_add(&tally_messages, 1);
  return SMFIS_CONTINUE;
}

int main(int count, char **arguments)
{
  struct smfiDesc description = {
    .xxfi_name = "noop",
    .xxfi_version = SMFI_VERSION,
    .xxfi_connect = on_connect,
    .xxfi_helo = on_text,
    .xxfi_envfrom = on_address,
    .xxfi_envrcpt = on_address,
    .xxfi_data = on_nothing,
    .xxfi_unknown = on_unknown,
    .xxfi_header = on_header,
    .xxfi_eoh = on_nothing,
    .xxfi_body = on_body,
    .xxfi_eom = on_end_of_message,
    .xxfi_abort = on_nothing,
    .xxfi_close = on_nothing,
  };
  if (count != 3) return 2;
  umask(0);   /* Postfix, which has an account of its own, must reach the socket */
  if (smfi_setconn(arguments[1]) != MI_SUCCESS || smfi_register(description) != MI_SUCCESS) return 1;
  int code = smfi_main();
  return tally_write(arguments[2]) == 0 ? code : 1;
}
