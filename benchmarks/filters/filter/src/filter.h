/*
 * One mail filter, the same in every form that is measured: an extension, a milter, a shared library.
 *
 * It scores listed words and a few facts of the header. Line ends inside a field count for nothing, so that it is all
 * one whether a form hands it over folded or unfolded.
 */
#ifndef FILTER_H
#define FILTER_H

#include <stddef.h>
#include <stdint.h>

enum {
  FILTER_FIELDS = 4,
  FILTER_FIELD_BYTES_MAX = 1024,   /* of a field's value, line ends not counted; what follows is ignored */
  FILTER_BODY_BYTES_MAX = 1024,
  FILTER_ANSWER_BYTES_MAX = 32,
};

/* The field that is added. Extensions that stand one behind the other add one each: spinrt keeps equal fields once. */
#ifndef FILTER_HEADER
#define FILTER_HEADER "X-Bench-Filter"
#endif

enum { FILTER_FROM, FILTER_SUBJECT, FILTER_LIST_ID, FILTER_PRIORITY };

/* Their names, lower case. Of a field that is there more than once the first counts. */
extern const char *const filter_names[FILTER_FIELDS];

typedef struct {
  const uint8_t *ptr;   /* NULL: the message has no such field */
  size_t len;
} filter_bytes_t;

typedef struct {
  filter_bytes_t fields[FILTER_FIELDS];
  filter_bytes_t body;
} filter_input_t;

/* Writes the value of the header field to add, as "suspect 12" or "clean 3", a zero behind it; returns its length. */
size_t filter_decide(const filter_input_t *input, char answer[FILTER_ANSWER_BYTES_MAX]);

#endif
