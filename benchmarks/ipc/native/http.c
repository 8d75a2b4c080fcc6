/* HTTP/1.1 over a kept connection, no more of it than a call needs: the floor of what any server of it takes.
 * The number is the path, the payload the body; the answer is a body of 8 bytes. One request is on its way at a time. */
#define _GNU_SOURCE
#include "streams.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 512 };

static const char blank_line[] = "\r\n\r\n";

static void send_head_and_body(int to, char *head, int head_bytes, void *body, size_t bytes)
{
  struct iovec parts[2] = { { head, (size_t)head_bytes }, { body, bytes } };
  ssize_t sent = writev(to, parts, 2);
  check(sent >= head_bytes, "writev");
  write_all(to, (uint8_t *)body + (sent - head_bytes), bytes - (size_t)(sent - head_bytes));
}

/* Read a head and the start of the body behind it; returns where that starts, and how much came in all. */
static size_t read_head(int from, char *buffer, size_t *came)
{
  *came = 0;
  for (;;) {
    ssize_t count = read(from, buffer + *came, HEAD_BYTES_MAX - *came);
    if (count == 0) _exit(0);
    check(count > 0, "read");
    *came += (size_t)count;
    char *end = memmem(buffer, *came, blank_line, sizeof blank_line - 1);
    if (end) return (size_t)(end - buffer) + sizeof blank_line - 1;
    check(*came < HEAD_BYTES_MAX, "length of a head");
  }
}

static size_t content_length(const char *head)
{
  const char *line = strcasestr(head, "\r\ncontent-length:");
  check(line != NULL, "Content-Length");
  return strtoull(strchr(line, ':') + 1, NULL, 10);
}

/* The whole body, of which a part came with the head. */
static void read_body(int from, const char *buffer, size_t head_bytes, size_t came, void *to, size_t bytes)
{
  check(came - head_bytes <= bytes, "length of a body");
  memcpy(to, buffer + head_bytes, came - head_bytes);
  read_all(from, (uint8_t *)to + (came - head_bytes), bytes - (came - head_bytes));
}

static void send_request(request_t *request)
{
  char head[HEAD_BYTES_MAX];
  int bytes = snprintf(head, sizeof head, "POST /%llu HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                       (unsigned long long)request->number, payload_bytes);
  send_head_and_body(to_server, head, bytes, request->payload, payload_bytes);
}

static uint64_t receive_answer(void)
{
  char buffer[HEAD_BYTES_MAX + 1];
  uint64_t answer;
  size_t came, head_bytes = read_head(from_server, buffer, &came);
  buffer[came] = 0;
  check(strncmp(buffer, "HTTP/1.1 200 ", 13) == 0 && content_length(buffer) == sizeof answer, "a response");
  read_body(from_server, buffer, head_bytes, came, &answer, sizeof answer);
  return answer;
}

static void serve(void)
{
  char buffer[HEAD_BYTES_MAX + 1], head[HEAD_BYTES_MAX];
  request_t *request = new_request();
  for (;;) {
    size_t came, head_bytes = read_head(from_client, buffer, &came);
    buffer[came] = 0;
    check(strncmp(buffer, "POST /", 6) == 0 && content_length(buffer) == payload_bytes, "a request");
    read_body(from_client, buffer, head_bytes, came, request->payload, payload_bytes);
    uint64_t answer = strtoull(buffer + 6, NULL, 10) + checksum(request->payload, payload_bytes);
    int bytes = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof answer);
    send_head_and_body(to_client, head, bytes, &answer, sizeof answer);
  }
}

const form_t http_form = { "http", 1, open_tcp, enter_tcp_client, enter_tcp_server, send_request, receive_answer, serve };
