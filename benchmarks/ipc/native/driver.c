/* Measures one form of inter-process communication: two processes, each held to a core, ask and answer.
 *
 *   driver FORM CLIENT_CORE SERVER_CORE BYTES WARM_UP SAMPLES BATCH RATE_CALLS < payload > result
 *
 * Round trips: WARM_UP that do not count; SAMPLES times BATCH, one after the other, of which each BATCH is timed; then
 * RATE_CALLS one after the other, timed together; then as many with up to `window_max` of them on their way at once.
 * Result, words of 64 bits in the machine's order: the checksum that was answered, the nanoseconds of each sample, of
 * the calls one by one, of the calls at once (0 where the form has no more than one on its way).
 *
 *   driver answer CORE BYTES NUMBER < payload > answer      what `spawn` starts for each call
 */
#define _GNU_SOURCE
#include "driver.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_S = 120, ARGUMENTS = 9, ANSWER_ARGUMENTS = 5 };

static const form_t *const forms[] = {
  &pipe_form, &unix_stream_form, &unix_datagram_form, &tcp_form, &http_form,
  &futex_form, &eventfd_form, &yield_form, &spin_form, &spawn_form,
};

size_t payload_bytes;
int server_core;
static request_t *request;
static uint64_t expected, next_number;

_Noreturn void fail(const char *what)
{
  fprintf(stderr, "driver: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
  _exit(1);
}

void check(int succeeded, const char *what)
{
  if (!succeeded) fail(what);
}

void pin(int core)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  check(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

request_t *new_request(void)
{
  request_t *made = aligned_alloc(64, (sizeof *made + payload_bytes + 63) / 64 * 64);
  check(made != NULL, "memory for a request");
  return made;
}

void nothing_to_enter(void)
{
}

void read_all(int descriptor, void *to, size_t bytes)
{
  for (size_t done = 0; done < bytes;) {
    ssize_t count = read(descriptor, (uint8_t *)to + done, bytes - done);
    if (count == 0) _exit(0);
    check(count > 0 || errno == EINTR, "read");
    if (count > 0) done += (size_t)count;
  }
}

void write_all(int descriptor, const void *from, size_t bytes)
{
  for (size_t done = 0; done < bytes;) {
    ssize_t count = write(descriptor, (const uint8_t *)from + done, bytes - done);
    check(count > 0 || errno == EINTR, "write");
    if (count > 0) done += (size_t)count;
  }
}

static uint64_t now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Calls, up to `window` of them on their way; each answer is compared. Returns the nanoseconds of all. */
static uint64_t call(const form_t *form, size_t calls, size_t window)
{
  uint64_t oldest = next_number, end = next_number + calls, began = now_ns();
  while (oldest != end) {
    while (next_number != end && next_number - oldest < window) {
      request->number = next_number++;
      form->send(request);
    }
    if (form->receive() != oldest++ + expected) fail("an answer");
  }
  return now_ns() - began;
}

static void measure(const form_t *form, size_t warm_up, size_t samples, size_t batch, size_t rate_calls)
{
  size_t count = samples + 3;
  uint64_t *result = calloc(count, sizeof *result);
  check(result != NULL, "memory for the result");
  result[0] = expected;
  call(form, warm_up, 1);
  for (size_t at = 0; at < samples; at++) result[1 + at] = call(form, batch, 1);
  result[samples + 1] = call(form, rate_calls, 1);
  result[samples + 2] = form->window_max > 1 ? call(form, rate_calls, form->window_max) : 0;
  write_all(STDOUT_FILENO, result, count * sizeof *result);
}

static void run_server(const form_t *form)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == 1) _exit(0);
  pin(server_core);
  form->enter_server();
  form->serve();
}

static const form_t *find(const char *name)
{
  for (size_t at = 0; at < sizeof forms / sizeof *forms; at++)
    if (strcmp(forms[at]->name, name) == 0) return forms[at];
  errno = 0;
  fail(name);
}

static void read_payload(void)
{
  request = new_request();
  read_all(STDIN_FILENO, request->payload, payload_bytes);
  expected = checksum(request->payload, payload_bytes);
}

static int answer(char **arguments)
{
  pin(atoi(arguments[2]));
  payload_bytes = strtoull(arguments[3], NULL, 10);
  read_payload();
  uint64_t answered = strtoull(arguments[4], NULL, 10) + expected;
  write_all(STDOUT_FILENO, &answered, sizeof answered);
  return 0;
}

static size_t number(const char *argument)
{
  return strtoull(argument, NULL, 10);
}

int main(int count, char **arguments)
{
  if (count == ANSWER_ARGUMENTS && strcmp(arguments[1], "answer") == 0) return answer(arguments);
  errno = 0;
  check(count == ARGUMENTS, "arguments");
  const form_t *form = find(arguments[1]);
  server_core = atoi(arguments[3]);
  payload_bytes = number(arguments[4]);
  read_payload();
  alarm(TIMEOUT_S);
  signal(SIGPIPE, SIG_IGN);
  form->open(payload_bytes);
  pid_t server = form->serve ? fork() : -1;
  check(server >= 0 || !form->serve, "fork");
  if (server == 0) run_server(form);
  pin(atoi(arguments[2]));
  form->enter_client();
  measure(form, number(arguments[5]), number(arguments[6]), number(arguments[7]), number(arguments[8]));
  if (server > 0) kill(server, SIGKILL);
  if (server > 0) waitpid(server, NULL, 0);
  return 0;
}
