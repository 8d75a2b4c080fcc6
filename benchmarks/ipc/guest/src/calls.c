/* The callee as an extension. */

#include "guest.h"

#include "../../native/work.h"

uint32_t export_ipc_calls_nothing(uint32_t number)
{
  return number;
}

uint64_t export_ipc_calls_checksum(spin_bytes_t payload)
{
  return checksum(payload.ptr, payload.len);
}
