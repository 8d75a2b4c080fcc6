/* One attack for each step; the step is the recipient's detail, of one digit or two. `handled` says that an answer was a wrong one. */

#include "guest.h"

static uint32_t wrong;

static void add(spin_string_t name, spin_string_t value)
{
  wrong += !mail_delivery_add_header(name, value).is_err;
}

static void forge_headers(void)
{
  add(SPIN_STRING("X-A\r\nBcc"), SPIN_STRING("x"));
  add(SPIN_STRING("X-A"), SPIN_STRING("x\r\nBcc: y"));
  add(SPIN_STRING("X-A"), SPIN_STRING("x\ny"));
  add(SPIN_STRING("X-A"), SPIN_STRING("x\xE2\x80\xA8y"));
  add(SPIN_STRING("X A"), SPIN_STRING("x"));
  add(SPIN_STRING(""), SPIN_STRING("x"));
}

static void file(spin_string_t mailbox)
{
  wrong += !mail_delivery_file_into(mailbox).is_err;
}

static void file_elsewhere(void)
{
  file(SPIN_STRING("../bob/INBOX"));
  file(SPIN_STRING("/etc/passwd"));
  file(SPIN_STRING("INBOX/lists/*"));
  file(SPIN_STRING("INBOX/lists/%"));
  file(SPIN_STRING("INBOX/lists/a\nb"));
  file(SPIN_STRING("INBOX/lists//"));
  file(SPIN_STRING("Archive"));
  file(SPIN_STRING("INBOX"));
}

/* A name made for a pattern of many stars, which would be tried at all places together. */
static void file_slowly(void)
{
  static uint8_t name[250];
  for (size_t i = 0; i < sizeof name; i++) name[i] = 'a';
  file((spin_string_t){ name, sizeof name });
}

static void reject(uint16_t code, spin_string_t text)
{
  wrong += !mail_delivery_reject(code, text).is_err;
}

static void refuse_with_success(void)
{
  reject(250, SPIN_STRING("fine"));
  reject(0, SPIN_STRING("fine"));
  reject(600, SPIN_STRING("fine"));
  reject(65535, SPIN_STRING("fine"));
  reject(550, SPIN_STRING("no\r\n250 ok"));
  reject(550, SPIN_STRING(""));
}

static void flag_for_ever(void)
{
  uint8_t flag[2] = { '$', 'a' };
  for (uint32_t i = 0; i < 20; i++, flag[1]++) (void)mail_delivery_set_flag((spin_string_t){ flag, 2 });
  wrong += !mail_delivery_set_flag(SPIN_STRING("a b")).is_err;
}

static bool reads_nothing(mail_message_borrow_t message, uint64_t offset, uint32_t length)
{
  return mail_message_read(message, offset, length).len == 0;
}

static bool reads_only_what_is_there(mail_message_borrow_t message)
{
  uint64_t size = mail_message_size(message);
  return reads_nothing(message, size, 1) && reads_nothing(message, UINT64_MAX, UINT32_MAX)
      && reads_nothing(message, 1ull << 63, 1) && mail_message_read(message, 0, UINT32_MAX).len == size
      && mail_message_read(message, size - 1, UINT32_MAX).len == 1;
}

mail_delivery_events_verdict_t export_mail_delivery_events_deliver(mail_envelope_t envelope, mail_message_borrow_t message)
{
  static mail_message_borrow_t kept;
  wrong = 0;
  switch (envelope.detail.value.len == 1 ? envelope.detail.value.ptr[0] : 'a') {
    case '1': forge_headers(); break;
    case '2': file_elsewhere(); break;
    case '3': file(SPIN_STRING("INBOX/lists/../../Trash")); wrong = 0; break; /* a name like any other, and no path */
    case '4': refuse_with_success(); break;
    case '5': flag_for_ever(); break;
    case '6': wrong = reads_only_what_is_there(message); break;
    case '7': kept = message; break;
    case '8': wrong = mail_message_size(kept) != 0; break;
    case '9':
      (void)mail_delivery_reject(550, SPIN_STRING("no"));
      (void)mail_delivery_discard();
      __builtin_trap();
    case 'a': file_slowly(); break;
    default: break;
  }
  return wrong ? MAIL_DELIVERY_EVENTS_VERDICT_HANDLED : MAIL_DELIVERY_EVENTS_VERDICT_PASS;
}
