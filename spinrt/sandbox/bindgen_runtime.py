"""The parts of the generated C that are the same for every guest: basic types, memory, byte helpers.

The allocator is an arena made for event handlers: what the host passes in and what a call allocates lives until the
exported function has returned (and the host has read its result), then the whole arena is empty again. Nothing is ever
freed one by one, nothing fragments, and a handler cannot leak. What has to outlive a call belongs into static
variables. The arena starts behind the static data and grows the memory when it must; when the host's limit does not
allow that, the guest traps, which is a fault of this one call.
"""

HEADER_TOP = """\
#ifndef SPIN_GUEST_H
#define SPIN_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Text: `len` bytes of UTF-8, without a zero at the end. Never write through a pointer that a call gave you. */
typedef struct { uint8_t *ptr; size_t len; } spin_string_t;
/** A `list<u8>`. */
typedef struct { uint8_t *ptr; size_t len; } spin_bytes_t;

/** A string from a literal, as an initialiser's value: SPIN_STRING("INBOX"). */
#define SPIN_STRING(literal) ((spin_string_t){ (uint8_t *)(literal), sizeof(literal) - 1 })

/**
 * Memory that lives until the exported function now running has returned and its result was read. Traps when the
 * memory's limit is reached. `align` is a power of two.
 */
void *spin_alloc(size_t size, size_t align);

/**
 * Give back all memory that was allocated from `end` on, by you or for what a call returned: after
 * `spin_trim(text.ptr + 10)` the first ten bytes of the newest text stay, and all before it.
 */
void spin_trim(const void *end);

/** Whether two texts have the same bytes. */
bool spin_equal(spin_string_t one, spin_string_t other);

/** A number in decimal digits; lives as long as what `spin_alloc` gives. */
spin_string_t spin_decimal(uint64_t number);

void *memcpy(void *restrict to, const void *restrict from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *one, const void *other, size_t length);
"""

HEADER_END = """
#endif
"""

GLUE_TOP = """\
#include "guest.h"

/* Memory. The arena is [__heap_base, arena_end); arena_last is its newest block, which alone can grow in place. */

#define PAGE_BYTES 65536u

extern unsigned char __heap_base;
static uintptr_t arena_next;
static uintptr_t arena_last;

static uintptr_t arena_take(uintptr_t start, size_t size)
{
  uintptr_t end = start + size;
  size_t pages = __builtin_wasm_memory_size(0);
  if (end < start || end > UINTPTR_MAX - PAGE_BYTES) __builtin_trap();
  if (end > pages * PAGE_BYTES) {
    size_t missing = (end - pages * PAGE_BYTES + PAGE_BYTES - 1) / PAGE_BYTES;
    if (__builtin_wasm_memory_grow(0, missing) == SIZE_MAX) __builtin_trap();
  }
  arena_next = end;
  arena_last = start;
  return start;
}

void *spin_alloc(size_t size, size_t align)
{
  uintptr_t next = arena_next ? arena_next : (uintptr_t)&__heap_base;
  uintptr_t start = (next + align - 1) & ~(uintptr_t)(align - 1);
  if (start < next) __builtin_trap();
  return (void *)arena_take(start, size);
}

void spin_trim(const void *end)
{
  uintptr_t to = (uintptr_t)end;
  if (to < (uintptr_t)&__heap_base || to > arena_next) return;
  arena_next = to;
  arena_last = 0;
}

/** The host's allocator: everything that is passed in comes through here. */
__attribute__((__export_name__("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size)
{
  if (size == 0) return (void *)align;
  if (old_size != 0 && (uintptr_t)old == arena_last && size >= old_size) return (void *)arena_take(arena_last, size);
  void *block = spin_alloc(size, align);
  if (old_size != 0) memcpy(block, old, old_size < size ? old_size : size);
  return block;
}

/* Every exported function ends here, or its cabi_post does when the host has to read the result first. */
static void call_ends(void)
{
  arena_next = 0;
  arena_last = 0;
}

bool spin_equal(spin_string_t one, spin_string_t other)
{
  return one.len == other.len && memcmp(one.ptr, other.ptr, one.len) == 0;
}

spin_string_t spin_decimal(uint64_t number)
{
  enum { DIGITS_MAX = 20 };
  uint8_t *digits = spin_alloc(DIGITS_MAX, 1);
  size_t start = DIGITS_MAX;
  do digits[--start] = (uint8_t)('0' + number % 10);
  while ((number /= 10) != 0);
  return (spin_string_t){ digits + start, DIGITS_MAX - start };
}

/* The compiler may call these whatever the sources do. Copies and fills are single instructions of the machine. */

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
  return __builtin_memcpy(to, from, length);
}

void *memmove(void *to, const void *from, size_t length)
{
  return __builtin_memmove(to, from, length);
}

void *memset(void *to, int value, size_t length)
{
  return __builtin_memset(to, value, length);
}

__attribute__((__no_builtin__))
int memcmp(const void *one, const void *other, size_t length)
{
  const unsigned char *a = one, *b = other;
  for (size_t i = 0; i < length; i++)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}
"""

BIT_CASTS = """
/* Floats in slots of integers, where the cases of a variant share them. */

__attribute__((__unused__))
static inline int32_t spin_bits_of_f32(float value) { union { float f; int32_t i; } u = { value }; return u.i; }
__attribute__((__unused__))
static inline int64_t spin_bits_of_f64(double value) { union { double f; int64_t i; } u = { value }; return u.i; }
__attribute__((__unused__))
static inline float spin_f32_of_bits(int32_t bits) { union { int32_t i; float f; } u = { bits }; return u.f; }
__attribute__((__unused__))
static inline double spin_f64_of_bits(int64_t bits) { union { int64_t i; double f; } u = { bits }; return u.f; }
"""
