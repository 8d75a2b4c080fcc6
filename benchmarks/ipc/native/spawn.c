/* A process for each call: this program again, in its mode `answer`; payload and answer go through pipes. */
#define _GNU_SOURCE
#include "driver.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM_BYTES = 1 << 20, DIGITS_MAX = 24 };

extern char **environ;

static int answers;
static pid_t child;

static void open_nothing(size_t bytes)
{
  (void)bytes;
}

static void start(int input, int output, uint64_t number)
{
  char core[DIGITS_MAX], bytes[DIGITS_MAX], digits[DIGITS_MAX];
  char *arguments[] = { "driver", "answer", core, bytes, digits, NULL };
  posix_spawn_file_actions_t actions;
  snprintf(core, sizeof core, "%d", server_core);
  snprintf(bytes, sizeof bytes, "%zu", payload_bytes);
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  check(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ) == 0, "posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
}

static void send_request(request_t *request)
{
  int asks[2], back[2];
  check(pipe2(asks, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0, "pipe2");
  if (payload_bytes * 2 > 1 << 16) fcntl(asks[1], F_SETPIPE_SZ, ROOM_BYTES);
  start(asks[0], back[1], request->number);
  close(asks[0]), close(back[1]);
  write_all(asks[1], request->payload, payload_bytes);
  close(asks[1]);
  answers = back[0];
}

static uint64_t receive_answer(void)
{
  uint64_t answer;
  int status;
  read_all(answers, &answer, sizeof answer);
  close(answers);
  check(waitpid(child, &status, 0) == child && status == 0, "the child's end");
  return answer;
}

const form_t spawn_form = {
  "spawn", 1, open_nothing, nothing_to_enter, nothing_to_enter, send_request, receive_answer, NULL,
};
