/* Forms in which the kernel carries the bytes: pipe, Unix stream and datagram sockets, TCP over loopback. */
#define _GNU_SOURCE
#include "streams.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for all requests that may be on their way; the kernel grants what the system's limit allows. */
enum { ROOM_BYTES = 1 << 20 };

static int asks[2], answers[2], ends[2], listener;
int to_server, from_server, to_client, from_client;

static void open_pipe(size_t bytes)
{
  check(pipe(asks) == 0 && pipe(answers) == 0, "pipe");
  if (bytes * 2 > 1 << 16) fcntl(asks[1], F_SETPIPE_SZ, ROOM_BYTES);
  from_client = asks[0], to_server = asks[1], from_server = answers[0], to_client = answers[1];
}

static void enter_pipe_client(void)
{
  check(close(asks[0]) == 0 && close(answers[1]) == 0, "close");
}

static void enter_pipe_server(void)
{
  check(close(asks[1]) == 0 && close(answers[0]) == 0, "close");
}

static void open_pair(int type)
{
  int room = ROOM_BYTES;
  check(socketpair(AF_UNIX, type, 0, ends) == 0, "socketpair");
  setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  to_server = from_server = ends[0], to_client = from_client = ends[1];
}

static void open_unix_stream(size_t bytes)
{
  (void)bytes;
  open_pair(SOCK_STREAM);
}

static void open_unix_datagram(size_t bytes)
{
  (void)bytes;
  open_pair(SOCK_DGRAM);
}

static void enter_pair_client(void)
{
  check(close(ends[1]) == 0, "close");
}

static void enter_pair_server(void)
{
  check(close(ends[0]) == 0, "close");
}

void open_tcp(size_t bytes)
{
  struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  (void)bytes;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  check(listener >= 0, "socket");
  check(bind(listener, (struct sockaddr *)&loopback, sizeof loopback) == 0 && listen(listener, 1) == 0, "listen");
}

static void without_delay(int connection)
{
  int on = 1;
  check(setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
}

void enter_tcp_client(void)
{
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  check(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
  to_server = from_server = socket(AF_INET, SOCK_STREAM, 0);
  check(connect(to_server, (struct sockaddr *)&address, size) == 0, "connect");
  without_delay(to_server);
}

void enter_tcp_server(void)
{
  to_client = from_client = accept(listener, NULL, NULL);
  check(to_client >= 0, "accept");
  without_delay(to_client);
}

static void send_request(request_t *request)
{
  write_all(to_server, request, sizeof *request + payload_bytes);
}

static uint64_t receive_answer(void)
{
  uint64_t answer;
  read_all(from_server, &answer, sizeof answer);
  return answer;
}

static void serve(void)
{
  request_t *request = new_request();
  for (;;) {
    read_all(from_client, request, sizeof *request + payload_bytes);
    uint64_t answer = request->number + checksum(request->payload, payload_bytes);
    write_all(to_client, &answer, sizeof answer);
  }
}

const form_t pipe_form = {
  "pipe", WINDOW_MAX, open_pipe, enter_pipe_client, enter_pipe_server, send_request, receive_answer, serve,
};
const form_t unix_stream_form = {
  "unix_stream", WINDOW_MAX, open_unix_stream, enter_pair_client, enter_pair_server, send_request, receive_answer, serve,
};
const form_t unix_datagram_form = {
  "unix_datagram", WINDOW_MAX, open_unix_datagram, enter_pair_client, enter_pair_server, send_request, receive_answer, serve,
};
const form_t tcp_form = {
  "tcp", WINDOW_MAX, open_tcp, enter_tcp_client, enter_tcp_server, send_request, receive_answer, serve,
};
