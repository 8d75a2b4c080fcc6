/* What compilers make of loops, bulk operations, vectors, calls through pointers and a stack of their own. */
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

extern void *memcpy(void *to, const void *from, size_t size);
extern void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size) { return __builtin_memcpy(to, from, size); }
void *memset(void *to, int value, size_t size) { return __builtin_memset(to, value, size); }

static uint8_t text[2048] = "what was there";
static float samples[256];
static uint64_t sums[64];
static uint32_t calls;

EXPORT("f0") int fill(int seed)
{
  for (uint32_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)((uint32_t)seed * 31 + i * i);
  return text[seed & 1023];
}

EXPORT("f1") int scale(int by)
{
  for (int i = 0; i < 256; i++) samples[i] = samples[i] * (float)(by & 7) + (float)i;
  int sum = 0;
  for (int i = 0; i < 256; i++) sum += (int)samples[i] & 0xff;
  return sum;
}

static void swap(uint8_t *one, uint8_t *other)
{
  uint8_t kept = *one;
  *one = *other, *other = kept;
}

EXPORT("f2") int sort(int count)
{
  uint8_t mine[256];
  uint32_t size = (uint32_t)count & 127;
  memcpy(mine, text, sizeof mine);
  for (uint32_t i = 0; i + 1 < size; i++)
    for (uint32_t j = i + 1; j < size; j++)
      if (mine[j] < mine[i]) swap(mine + i, mine + j);
  memcpy(text + 512, mine, size);
  return mine[size / 2];
}

typedef uint64_t step(uint64_t);
static uint64_t twice(uint64_t value) { return calls++, value * 2 + 1; }
static uint64_t mixed(uint64_t value) { return calls += 3, value ^ value >> 7; }
static step *volatile steps[2] = { twice, mixed };

EXPORT("f3") int apply(int rounds)
{
  for (uint32_t i = 0; i < ((uint32_t)rounds & 63); i++) sums[i] = steps[i & 1](sums[i] + i);
  return (int)(sums[rounds & 63] ^ calls);
}

static int depth(int left, uint32_t *path)
{
  uint32_t here[4] = { (uint32_t)left, path ? path[0] : 0, 2, 3 };
  if (left <= 0) return (int)here[1];
  sums[left & 63] += here[(uint32_t)left & 3];
  return depth(left - 1, here) + 1;
}

EXPORT("f4") int recurse(int left) { return depth(left & 31, NULL); }

EXPORT("f5") int clear(int from)
{
  memset(text + (from & 1023), from, 700);
  if (from & 1) __builtin_trap();
  memcpy(text, text + 1024, 512);
  return text[100];
}
