/* What TCP and HTTP share: one connection over loopback, without delay. */
#ifndef IPC_STREAMS_H
#define IPC_STREAMS_H

#include "driver.h"

extern int to_server, from_server, to_client, from_client;

void open_tcp(size_t bytes);
void enter_tcp_client(void);
void enter_tcp_server(void);

#endif
