/* The filter's logic: plain C, no library, no state. */

#include "filter.h"

enum {
  FROM_POINTS = 1, SUBJECT_POINTS = 2, BODY_POINTS = 1,   /* for each listed word */
  URGENT_POINTS = 2,
  LIST_POINTS = 3,                                        /* taken off */
  SUSPECT_POINTS = 3,
};

const char *const filter_names[FILTER_FIELDS] = { "from", "subject", "list-id", "x-priority" };

/* By their first letter; a blank behind each. */
static const char *const WORDS[26] = {
  "act ", "bargain billion bonus buy ", "cash casino cheap click congratulations credit cure ",
  "deal discount ", "earn exclusive ", "free ", "gift guarantee guaranteed ", "",
  "income insurance investment ", "", "", "limited loan lottery ", "miracle money mortgage ", "",
  "offer order ", "pills prize profit promotion ", "", "refund remove risk ", "sale save stock subscribe ",
  "", "unsubscribe urgent ", "", "warranty weight winner won ", "", "", "",
};

static uint8_t lower(uint8_t byte)
{
  return byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte;
}

static int is_letter(uint8_t byte)
{
  return lower(byte) >= 'a' && lower(byte) <= 'z';
}

/* The word consists of letters; there is at least one. */
static int is_listed(filter_bytes_t word)
{
  for (const char *listed = WORDS[lower(word.ptr[0]) - 'a']; *listed != 0; listed++) {
    size_t i = 0;
    while (i < word.len && (char)lower(word.ptr[i]) == listed[i]) i++;
    if (i == word.len && listed[i] == ' ') return 1;
    for (listed += i; *listed != ' ';) listed++;
  }
  return 0;
}

static filter_bytes_t clip(filter_bytes_t text, size_t bytes_max)
{
  return (filter_bytes_t){ text.ptr, text.len < bytes_max ? text.len : bytes_max };
}

static uint32_t count_listed(filter_bytes_t text)
{
  uint32_t count = 0;
  for (size_t i = 0; i < text.len;) {
    size_t start = i;
    while (i < text.len && is_letter(text.ptr[i])) i++;
    if (i == start) i++;
    else count += is_listed((filter_bytes_t){ text.ptr + start, i - start });
  }
  return count;
}

/* X-Priority: 1 (Highest) */
static int is_urgent(filter_bytes_t priority)
{
  size_t i = 0;
  while (i < priority.len && (priority.ptr[i] == ' ' || priority.ptr[i] == '\t')) i++;
  return i < priority.len && (priority.ptr[i] == '1' || priority.ptr[i] == '2');
}

static uint32_t score(const filter_input_t *input)
{
  const filter_bytes_t *fields = input->fields;
  uint32_t points = FROM_POINTS * count_listed(clip(fields[FILTER_FROM], FILTER_FIELD_BYTES_MAX));
  points += SUBJECT_POINTS * count_listed(clip(fields[FILTER_SUBJECT], FILTER_FIELD_BYTES_MAX));
  points += BODY_POINTS * count_listed(clip(input->body, FILTER_BODY_BYTES_MAX));
  if (is_urgent(fields[FILTER_PRIORITY])) points += URGENT_POINTS;
  if (fields[FILTER_LIST_ID].ptr == NULL) return points;
  return points > LIST_POINTS ? points - LIST_POINTS : 0;
}

static size_t append_text(char *answer, size_t length, const char *text)
{
  while (*text != 0) answer[length++] = *text++;
  return length;
}

static size_t append_decimal(char *answer, size_t length, uint32_t number)
{
  if (number >= 10) length = append_decimal(answer, length, number / 10);
  answer[length++] = (char)('0' + number % 10);
  return length;
}

size_t filter_decide(const filter_input_t *input, char answer[FILTER_ANSWER_BYTES_MAX])
{
  uint32_t points = score(input);
  size_t length = append_text(answer, 0, points >= SUSPECT_POINTS ? "suspect " : "clean ");
  length = append_decimal(answer, length, points);
  answer[length] = 0;
  return length;
}
