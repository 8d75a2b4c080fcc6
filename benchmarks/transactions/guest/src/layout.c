/*
 * Where code lies decides as much about a small loop as what is done in it. Each variant of the module has other
 * functions in front of the kernels: LAYOUT is how many, 0 to 4. Nobody calls them.
 */

#include "guest.h"

#ifndef LAYOUT
#define LAYOUT 0
#endif

#define PADDING(number) __attribute__((__export_name__("layout-" #number))) uint32_t layout_##number(uint32_t value)

#if LAYOUT > 0
PADDING(1) { return __builtin_popcount(value) + 1; }
#endif
#if LAYOUT > 1
PADDING(2) { return value * 2654435761u ^ value >> 7; }
#endif
#if LAYOUT > 2
PADDING(3) { return value % 1000 * 3 + __builtin_clz(value | 1); }
#endif
#if LAYOUT > 3
PADDING(4) { return (value << 13 ^ value >> 19) + (value & 0xff00ff) * 5; }
#endif
