/* A form of inter-process communication, as the driver uses it. */
#ifndef IPC_DRIVER_H
#define IPC_DRIVER_H

#include <string.h>

#include "work.h"

enum { WINDOW_MAX = 16 };

/* Request: the number, then the payload, one behind the other, so that one call sends both. */
typedef struct {
  uint64_t number;
  uint8_t payload[];
} request_t;

typedef struct {
  const char *name;
  unsigned window_max;                   /* so many requests may be on their way at once */
  void (*open)(size_t bytes);            /* in the parent, before there are two processes */
  void (*enter_client)(void);            /* in each of them, once */
  void (*enter_server)(void);
  void (*send)(request_t *request);
  uint64_t (*receive)(void);             /* the answer to the oldest request that has none */
  void (*serve)(void);                   /* for ever */
} form_t;

extern const form_t pipe_form, unix_stream_form, unix_datagram_form, tcp_form, http_form;
extern const form_t futex_form, eventfd_form, yield_form, spin_form;
extern const form_t spawn_form;

extern size_t payload_bytes;
extern int server_core;

/* End with a line that says what failed and why; never returns. */
_Noreturn void fail(const char *what);
void check(int succeeded, const char *what);
void pin(int core);
request_t *new_request(void);
void nothing_to_enter(void);

/* All of it, or `fail`. The other end being gone ends the process in silence: it is how a server learns to stop. */
void read_all(int descriptor, void *to, size_t bytes);
void write_all(int descriptor, const void *from, size_t bytes);

#endif
