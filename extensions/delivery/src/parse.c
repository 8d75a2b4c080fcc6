/*
 * The rules' text, line by line, into rules_t.
 *
 *   rule      = condition { "and" condition } "->" action { ";" action }
 *   condition = ["not"] ( "always" | "size" ("over" | "under") SIZE | subject ( "exists" | test STRING ) )
 *   subject   = "header" NAME | "list" | "detail" | "sender" | "recipient" | "user"
 *   test      = "is" | "contains" | "matches"
 *   action    = "file" STRING | "flag" STRING | "header" NAME STRING | "reject" CODE STRING | "discard" | "stop"
 *
 * A string is quoted with " or ', or is a bare word. There are no escapes: a string has no quote of its own kind.
 */

#include "rules.h"

typedef struct {
  rules_t *rules;
  uint8_t *next, *end;        /* of the line */
  unsigned line;
  const char *problem;        /* set once; parsing stops */
  spin_string_t found;
} parser_t;

static spin_string_t span(const uint8_t *start, const uint8_t *end)
{
  return (spin_string_t){ (uint8_t *)start, (size_t)(end - start) };
}

static bool fail(parser_t *parser, const char *problem, spin_string_t found)
{
  if (parser->problem == NULL) {
    parser->problem = problem;
    parser->found = found;
  }
  return false;
}

static bool is_space(uint8_t byte)
{
  return byte == ' ' || byte == '\t' || byte == '\r';
}

/* Words */

static void skip_spaces(parser_t *parser)
{
  while (parser->next < parser->end && is_space(*parser->next)) parser->next++;
}

/* A comment or the end. */
static bool at_end(parser_t *parser)
{
  skip_spaces(parser);
  return parser->next == parser->end || *parser->next == '#';
}

static spin_string_t peek_word(parser_t *parser)
{
  skip_spaces(parser);
  uint8_t *end = parser->next;
  if (end < parser->end && *end == ';') return span(end, end + 1);
  while (end < parser->end && !is_space(*end) && *end != ';') end++;
  return span(parser->next, end);
}

static spin_string_t take_word(parser_t *parser)
{
  spin_string_t word = peek_word(parser);
  parser->next = word.ptr + word.len;
  return word;
}

static bool take(parser_t *parser, spin_string_t expected)
{
  if (!text_is(peek_word(parser), expected)) return false;
  take_word(parser);
  return true;
}

static bool take_quoted(parser_t *parser, spin_string_t *string)
{
  uint8_t quote = *parser->next, *start = parser->next + 1, *end = start;
  while (end < parser->end && *end != quote) end++;
  if (end == parser->end) return fail(parser, "a string that is not closed", span(parser->next, end));
  parser->next = end + 1;
  *string = span(start, end);
  return true;
}

static bool take_string(parser_t *parser, spin_string_t *string)
{
  if (at_end(parser)) return fail(parser, "expected a string", peek_word(parser));
  if (*parser->next == '"' || *parser->next == '\'') {
    if (!take_quoted(parser, string)) return false;
  } else {
    *string = take_word(parser);
    if (text_is(*string, SPIN_STRING(";")) || text_is(*string, SPIN_STRING("->")))
      return fail(parser, "expected a string", *string);
  }
  if (string->len == 0) return fail(parser, "expected a string that is not empty", *string);
  if (string->len > STRING_BYTES_MAX) return fail(parser, "a string of over 256 bytes", *string);
  for (size_t i = 0; i < string->len; i++)
    if (string->ptr[i] < ' ' || string->ptr[i] == 127) return fail(parser, "a control character in a string", *string);
  return true;
}

static bool take_field_name(parser_t *parser, spin_string_t *name)
{
  if (!take_string(parser, name)) return false;
  if (name->len > 64) return fail(parser, "a header field name of over 64 bytes", *name);
  for (size_t i = 0; i < name->len; i++)
    if (name->ptr[i] <= ' ' || name->ptr[i] >= 127 || name->ptr[i] == ':')
      return fail(parser, "expected the name of a header field, without a colon", *name);
  return true;
}

static bool take_number(parser_t *parser, uint64_t limit, uint64_t *number, spin_string_t *rest)
{
  spin_string_t word = take_word(parser);
  size_t i = 0;
  *number = 0;
  for (; i < word.len && word.ptr[i] >= '0' && word.ptr[i] <= '9'; i++) {
    *number = *number * 10 + (uint64_t)(word.ptr[i] - '0');
    if (*number > limit) return fail(parser, "a number that is too large", word);
  }
  if (i == 0) return fail(parser, "expected a number", word);
  *rest = (spin_string_t){ word.ptr + i, word.len - i };
  return true;
}

static bool take_size(parser_t *parser, uint64_t *size)
{
  spin_string_t unit;
  if (!take_number(parser, UINT64_C(1) << 32, size, &unit)) return false;
  if (text_is(unit, SPIN_STRING("K"))) *size <<= 10;
  else if (text_is(unit, SPIN_STRING("M"))) *size <<= 20;
  else if (text_is(unit, SPIN_STRING("G"))) *size <<= 30;
  else if (unit.len != 0) return fail(parser, "expected a size such as 500, 64K, 10M or 1G", unit);
  return true;
}

/* Conditions */

static bool intern_field(parser_t *parser, spin_string_t name, uint16_t *index)
{
  rules_t *rules = parser->rules;
  for (uint16_t i = 0; i < rules->field_count; i++)
    if (text_is(rules->fields[i], name)) {
      *index = i;
      return true;
    }
  if (rules->field_count == FIELDS_MAX) return fail(parser, "more than 64 different header fields", name);
  *index = rules->field_count++;
  rules->fields[*index] = name;
  return true;
}

static bool parse_test(parser_t *parser, condition_t *condition)
{
  spin_string_t word = take_word(parser);
  if (text_is(word, SPIN_STRING("exists"))) {
    condition->test = TEST_EXISTS;
    return true;
  }
  if (text_is(word, SPIN_STRING("is"))) condition->test = TEST_IS;
  else if (text_is(word, SPIN_STRING("contains"))) condition->test = TEST_CONTAINS;
  else if (text_is(word, SPIN_STRING("matches"))) condition->test = TEST_MATCHES;
  else return fail(parser, "expected is, contains, matches or exists", word);
  return take_string(parser, &condition->text);
}

static bool parse_size(parser_t *parser, condition_t *condition)
{
  spin_string_t word = take_word(parser);
  if (text_is(word, SPIN_STRING("over"))) condition->test = TEST_OVER;
  else if (text_is(word, SPIN_STRING("under"))) condition->test = TEST_UNDER;
  else return fail(parser, "expected over or under", word);
  return take_size(parser, &condition->size);
}

static bool parse_condition(parser_t *parser)
{
  rules_t *rules = parser->rules;
  if (rules->condition_count == CONDITIONS_MAX) return fail(parser, "more than 1024 conditions", peek_word(parser));
  condition_t *condition = &rules->conditions[rules->condition_count++];
  *condition = (condition_t){ .negated = take(parser, SPIN_STRING("not")) };
  spin_string_t word = take_word(parser);
  if (text_is(word, SPIN_STRING("always"))) {
    condition->subject = SUBJECT_ALWAYS;
    return true;
  }
  if (text_is(word, SPIN_STRING("size"))) {
    condition->subject = SUBJECT_SIZE;
    return parse_size(parser, condition);
  }
  if (text_is(word, SPIN_STRING("header"))) {
    spin_string_t name;
    condition->subject = SUBJECT_HEADER;
    if (!take_field_name(parser, &name) || !intern_field(parser, name, &condition->field)) return false;
  } else if (text_is(word, SPIN_STRING("list"))) condition->subject = SUBJECT_LIST;
  else if (text_is(word, SPIN_STRING("detail"))) condition->subject = SUBJECT_DETAIL;
  else if (text_is(word, SPIN_STRING("sender"))) condition->subject = SUBJECT_SENDER;
  else if (text_is(word, SPIN_STRING("recipient"))) condition->subject = SUBJECT_RECIPIENT;
  else if (text_is(word, SPIN_STRING("user"))) condition->subject = SUBJECT_USER;
  else return fail(parser, "expected always, header, list, detail, sender, recipient, user or size", word);
  return parse_test(parser, condition);
}

/* Actions */

static bool known_substitution(spin_string_t name)
{
  return spin_equal(name, SPIN_STRING("detail")) || spin_equal(name, SPIN_STRING("list"))
      || spin_equal(name, SPIN_STRING("list-id"));
}

static bool check_substitutions(parser_t *parser, spin_string_t text)
{
  for (size_t i = 0; i + 1 < text.len; i++) {
    if (text.ptr[i] != '$' || text.ptr[i + 1] != '{') continue;
    size_t end = i + 2;
    while (end < text.len && text.ptr[end] != '}') end++;
    if (end == text.len || !known_substitution(span(text.ptr + i + 2, text.ptr + end)))
      return fail(parser, "expected ${detail}, ${list} or ${list-id}", text);
    i = end;
  }
  return true;
}

static bool check_flag(parser_t *parser, spin_string_t flag)
{
  for (size_t i = 0; i < flag.len; i++) {
    uint8_t byte = flag.ptr[i];
    bool special = byte == '(' || byte == ')' || byte == '{' || byte == '%' || byte == '*' || byte == '"' || byte == ']';
    if (byte <= ' ' || byte >= 127 || special || (byte == '\\' && i > 0))
      return fail(parser, "expected an IMAP flag such as \\Flagged or $Label", flag);
  }
  return true;
}

static bool parse_reject(parser_t *parser, action_t *action)
{
  uint64_t code;
  spin_string_t rest, word = peek_word(parser);
  if (!take_number(parser, 999, &code, &rest)) return false;
  if (rest.len != 0 || code < 450 || code > 599) return fail(parser, "expected a reply code from 450 to 599", word);
  action->code = (uint16_t)code;
  return take_string(parser, &action->text);
}

static bool parse_action(parser_t *parser)
{
  rules_t *rules = parser->rules;
  if (rules->action_count == ACTIONS_MAX) return fail(parser, "more than 1024 actions", peek_word(parser));
  action_t *action = &rules->actions[rules->action_count++];
  *action = (action_t){ .kind = ACTION_STOP };
  spin_string_t word = take_word(parser);
  if (text_is(word, SPIN_STRING("stop"))) return true;
  if (text_is(word, SPIN_STRING("discard"))) {
    action->kind = ACTION_DISCARD;
    return true;
  }
  if (text_is(word, SPIN_STRING("file"))) {
    action->kind = ACTION_FILE;
    return take_string(parser, &action->text) && check_substitutions(parser, action->text);
  }
  if (text_is(word, SPIN_STRING("flag"))) {
    action->kind = ACTION_FLAG;
    return take_string(parser, &action->text) && check_flag(parser, action->text);
  }
  if (text_is(word, SPIN_STRING("header"))) {
    action->kind = ACTION_HEADER;
    return take_field_name(parser, &action->name) && take_string(parser, &action->text)
        && check_substitutions(parser, action->text);
  }
  if (text_is(word, SPIN_STRING("reject"))) {
    action->kind = ACTION_REJECT;
    return parse_reject(parser, action);
  }
  return fail(parser, "expected file, flag, header, reject, discard or stop", word);
}

/* Lines */

static bool parse_line(parser_t *parser)
{
  rules_t *rules = parser->rules;
  if (at_end(parser)) return true;
  if (rules->rule_count == RULES_MAX) return fail(parser, "more than 256 rules", peek_word(parser));
  rule_t *rule = &rules->rules[rules->rule_count++];
  rule->condition_start = rules->condition_count;
  do
    if (!parse_condition(parser)) return false;
  while (take(parser, SPIN_STRING("and")));
  rule->condition_end = rules->condition_count;
  if (!take(parser, SPIN_STRING("->"))) return fail(parser, "expected `and` or `->`", peek_word(parser));
  rule->action_start = rules->action_count;
  do
    if (!parse_action(parser)) return false;
  while (take(parser, SPIN_STRING(";")) && !at_end(parser));
  rule->action_end = rules->action_count;
  return at_end(parser) || fail(parser, "expected `;` or the end of the line", peek_word(parser));
}

static spin_string_t from_literal(const char *text)
{
  size_t len = 0;
  while (text[len] != 0) len++;
  return (spin_string_t){ (uint8_t *)text, len };
}

/* Cut at the start of a character, so that the message stays UTF-8. */
static spin_string_t clip(spin_string_t text)
{
  size_t len = text.len < 40 ? text.len : 40;
  while (len < text.len && len > 0 && (text.ptr[len] & 0xC0) == 0x80) len--;
  return (spin_string_t){ text.ptr, len };
}

static spin_string_t describe(const parser_t *parser)
{
  static buffer_t message;
  message = (buffer_t){ 0 };
  buffer_append(&message, SPIN_STRING("rules, line "));
  buffer_append(&message, spin_decimal(parser->line));
  buffer_append(&message, SPIN_STRING(": "));
  buffer_append(&message, from_literal(parser->problem));
  if (parser->found.len != 0) {
    buffer_append(&message, SPIN_STRING(", found `"));
    buffer_append(&message, clip(parser->found));
    buffer_append(&message, SPIN_STRING("`"));
  } else {
    buffer_append(&message, SPIN_STRING(", found the end of the line"));
  }
  return (spin_string_t){ message.bytes, message.len };
}

spin_string_t rules_parse(rules_t *rules, spin_string_t text)
{
  if (text.len > TEXT_BYTES_MAX) return SPIN_STRING("rules: the text is longer than 32768 bytes");
  rules->rule_count = rules->condition_count = rules->action_count = rules->field_count = 0;
  memcpy(rules->text, text.ptr, text.len);
  parser_t parser = { .rules = rules };
  intern_field(&parser, SPIN_STRING("List-Id"), &rules->list_field);
  uint8_t *start = rules->text, *end = rules->text + text.len;
  while (start < end) {
    uint8_t *stop = start;
    while (stop < end && *stop != '\n') stop++;
    parser.line++;
    parser.next = start;
    parser.end = stop;
    if (!parse_line(&parser)) return describe(&parser);
    start = stop + 1;
  }
  return (spin_string_t){ NULL, 0 };
}
