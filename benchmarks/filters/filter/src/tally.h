/* What a milter counted, written when it ends, so that nobody takes a filter that was left out for a fast one. */
#ifndef TALLY_H
#define TALLY_H

#include <stdatomic.h>
#include <stdio.h>

static atomic_ulong tally_messages, tally_suspects;

static int tally_write(const char *path)
{
  FILE *file = fopen(path, "w");
  if (file == NULL) return -1;
  fprintf(file, "%lu %lu\n", atomic_load(&tally_messages), atomic_load(&tally_suspects));
  return fclose(file);
}

#endif
