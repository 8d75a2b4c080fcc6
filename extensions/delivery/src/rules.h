/*
 * Rules as they are kept: parsed once by parse.c, read for every message by match.c and delivery.c.
 *
 * Everything has a bound and lies in static memory; texts are spans of one copy of the rules' text.
 * The language is described in docs/formats/rules.md.
 */
#ifndef RULES_H
#define RULES_H

#include "guest.h"

enum {
  TEXT_BYTES_MAX = 32768,     /* of the whole rules text */
  RULES_MAX = 256,
  CONDITIONS_MAX = 1024,      /* of all rules together */
  ACTIONS_MAX = 1024,
  FIELDS_MAX = 64,            /* different header fields that rules may name */
  OCCURRENCES_MAX = 8,        /* of one header field that are looked at */
  VALUE_BYTES_MAX = 4096,     /* of one header field that are looked at */
  STRING_BYTES_MAX = 256,     /* of one string in the rules */
};

typedef enum {
  SUBJECT_ALWAYS,
  SUBJECT_SIZE,
  SUBJECT_HEADER,
  SUBJECT_LIST,
  SUBJECT_DETAIL,
  SUBJECT_SENDER,
  SUBJECT_RECIPIENT,
  SUBJECT_USER,
} subject_t;

typedef enum { TEST_EXISTS, TEST_IS, TEST_CONTAINS, TEST_MATCHES, TEST_OVER, TEST_UNDER } test_t;

typedef struct {
  subject_t subject;
  test_t test;
  bool negated;
  uint16_t field;             /* of SUBJECT_HEADER: index into rules_t.fields */
  uint64_t size;              /* of SUBJECT_SIZE, in bytes */
  spin_string_t text;         /* of TEST_IS, TEST_CONTAINS and TEST_MATCHES */
} condition_t;

typedef enum { ACTION_FILE, ACTION_FLAG, ACTION_HEADER, ACTION_REJECT, ACTION_DISCARD, ACTION_STOP } action_kind_t;

typedef struct {
  action_kind_t kind;
  uint16_t code;              /* of ACTION_REJECT */
  spin_string_t name;         /* of ACTION_HEADER */
  spin_string_t text;         /* mailbox, flag, header value or reason */
} action_t;

typedef struct {
  uint16_t condition_start, condition_end;
  uint16_t action_start, action_end;
} rule_t;

typedef struct {
  rule_t rules[RULES_MAX];
  condition_t conditions[CONDITIONS_MAX];
  action_t actions[ACTIONS_MAX];
  spin_string_t fields[FIELDS_MAX];
  uint16_t rule_count, condition_count, action_count, field_count;
  uint16_t list_field;        /* index of List-Id in fields, which is always there */
  uint8_t text[TEXT_BYTES_MAX];
} rules_t;

/** Parse a text. Returns an empty string, or what is wrong with it, beginning with the line. */
spin_string_t rules_parse(rules_t *rules, spin_string_t text);

/* match.c: texts */

/** Whether two texts are equal when the case of ASCII letters does not count. */
bool text_is(spin_string_t text, spin_string_t other);
/** Whether a text has another one in it, the case of ASCII letters aside. */
bool text_contains(spin_string_t text, spin_string_t part);
/** Whether a text matches a pattern of characters, `?` (any byte) and `*` (any bytes), the case of ASCII letters aside. */
bool text_matches(spin_string_t text, spin_string_t pattern);
/** What stands between the last `<` and the `>` behind it, or the whole text. */
spin_string_t text_in_brackets(spin_string_t text);
/** The text up to its first dot. */
spin_string_t text_first_label(spin_string_t text);

typedef struct {
  uint8_t bytes[STRING_BYTES_MAX * 2];
  size_t len;
  bool overflow;
} buffer_t;

/** Append a text; what does not fit sets `overflow` and is left out. */
void buffer_append(buffer_t *buffer, spin_string_t text);
/** Append a text from outside so that it is one harmless part of a mailbox name: lower case, `a-z 0-9 . _ -`, 64 bytes. */
void buffer_append_safe(buffer_t *buffer, spin_string_t text);

#endif
