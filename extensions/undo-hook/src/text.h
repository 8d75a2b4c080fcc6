/* Texts of bounded length, and the facts that tag.c writes and policy.c reads. */
#ifndef TEXT_H
#define TEXT_H

#include "guest.h"

enum { TEXT_BYTES_MAX = 4096 };    /* the most that a tag's value may have */

/** A text being written; what does not fit is left out. */
typedef struct {
  uint8_t *bytes;
  size_t len;
} text_t;

/** An empty text in the arena. */
text_t text_new(void);
/** Append UTF-8; it is cut at the start of a character where it must be. */
void text_append(text_t *text, spin_string_t part);
/** Append `name=value` and a line end, whole or not at all; control characters of the value become `?`. */
bool text_append_fact(text_t *text, spin_string_t name, spin_string_t value);
/** What was written. */
spin_string_t text_string(const text_t *text);

/** Whether a text has nothing but blanks. */
bool text_blank(spin_string_t text);
/** Cut at the start of a character. */
spin_string_t text_clip(spin_string_t text, size_t bytes_max);

/* Keys of tags. */
#define KEY_MESSAGE_ID "message-id"
#define KEY_SUBJECT_HASH "subject-hash"
#define KEY_ENVELOPE "envelope"
#define KEY_OUTCOME "outcome."

#endif
