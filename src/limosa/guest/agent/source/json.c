/* RFC 8259 as far as requests need it: one object of texts, numbers, booleans and nulls. */
#include "json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *skip_space(char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')
        at++;
    return at;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

static int hex_four(const char *at)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* UTF-8 is at most three bytes here, six characters of source: it never outgrows its place. */
static char *put_utf8(char *to, int code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* `at` is behind a backslash; returns the character behind the escape, or NULL. */
static char *parse_escape(char *at, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (*at == 'u') {
        int code = hex_four(at + 1);
        if (code <= 0 || (code >= 0xd800 && code < 0xe000))
            return NULL; /* NUL would cut the text; surrogate pairs are not needed */
        *to = put_utf8(*to, code);
        return at + 5;
    }
    const char *known = *at ? strchr(from, *at) : NULL;
    if (!known)
        return NULL;
    *(*to)++ = into[known - from];
    return at + 1;
}

/* `at` is on the opening quote; the text ends up at at + 1, ended by a NUL. */
static char *parse_text(char *at)
{
    char *to = ++at;
    while (*at != '"') {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at != '\\')
            *to++ = *at++;
        else if (!(at = parse_escape(at + 1, &to)))
            return NULL;
    }
    *to = '\0';
    return at + 1;
}

/* The character that ended a number is needed again, so it is handed back. */
static char *parse_value(char *at, struct json_field *field)
{
    static const struct {
        const char *word;
        enum json_kind kind;
    } words[] = {{"true", JSON_TRUE}, {"false", JSON_FALSE}, {"null", JSON_NULL}};
    if (*at == '"') {
        field->kind = JSON_TEXT;
        field->text = at + 1;
        return parse_text(at);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i].word);
        if (strncmp(at, words[i].word, length) == 0) {
            field->kind = words[i].kind;
            field->text = words[i].word;
            return at + length;
        }
    }
    size_t length = strspn(at, "+-.0123456789eE");
    if (length == 0)
        return NULL;
    field->kind = JSON_NUMBER;
    field->text = at;
    return at + length;
}

const char *json_parse(char *line, struct json_object *object)
{
    object->count = 0;
    char *at = skip_space(line);
    if (*at != '{')
        return "a request is one JSON object on one line";
    at = skip_space(at + 1);
    while (*at != '}') {
        if (object->count == JSON_FIELDS)
            return "a request has too many fields";
        struct json_field *field = &object->fields[object->count++];
        if (*at != '"')
            return "a field's name has to be a text";
        field->name = at + 1;
        if (!(at = parse_text(at)))
            return "a field's name is not a sound text";
        at = skip_space(at);
        if (*at != ':')
            return "a colon is missing behind a field's name";
        if (!(at = parse_value(skip_space(at + 1), field)))
            return "a value has to be a text, a number, true, false or null";
        char *behind = at;
        at = skip_space(at);
        if (*at != ',' && *at != '}')
            return "a comma or the closing brace is missing";
        bool last = *at == '}';
        *behind = '\0'; /* ends a number; it stood on a space, a comma or the brace */
        at = last ? at : skip_space(at + 1);
        if (last)
            return *skip_space(at + 1) ? "there is something behind the closing brace" : NULL;
        if (*at == '}')
            return "a comma has to be followed by a field";
    }
    return *skip_space(at + 1) ? "there is something behind the closing brace" : NULL;
}

const struct json_field *json_find(const struct json_object *object, const char *name)
{
    for (size_t i = 0; i < object->count; i++)
        if (strcmp(object->fields[i].name, name) == 0)
            return &object->fields[i];
    return NULL;
}

static void put(struct json_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct json_writer *writer, const char *format, ...)
{
    size_t room = writer->room - writer->length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(writer->bytes + writer->length, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        writer->overflow = true;
    else
        writer->length += (size_t)length;
}

static void put_name(struct json_writer *writer, const char *name)
{
    if (writer->comma)
        put(writer, ",");
    writer->comma = true;
    if (name)
        put(writer, "\"%s\":", name); /* names are ours and need no escapes */
}

void json_begin(struct json_writer *writer)
{
    writer->length = 0;
    writer->overflow = writer->comma = false;
    put(writer, "{");
}

void json_end(struct json_writer *writer)
{
    put(writer, "}\n");
}

void json_put_u64(struct json_writer *writer, const char *name, uint64_t value)
{
    put_name(writer, name);
    put(writer, "%llu", (unsigned long long)value);
}

void json_put_real(struct json_writer *writer, const char *name, double value)
{
    put_name(writer, name);
    put(writer, "%.17g", isfinite(value) ? value : 0.0);
}

void json_put_bool(struct json_writer *writer, const char *name, bool value)
{
    put_name(writer, name);
    put(writer, value ? "true" : "false");
}

void json_put_text(struct json_writer *writer, const char *name, const char *value)
{
    put_name(writer, name);
    put(writer, "\"");
    for (; *value; value++) {
        unsigned char letter = (unsigned char)*value;
        if (letter == '"' || letter == '\\')
            put(writer, "\\%c", letter);
        else if (letter < 0x20 || letter >= 0x7f) /* bytes of a broken request may be no UTF-8 */
            put(writer, "\\u%04x", letter);
        else
            put(writer, "%c", letter);
    }
    put(writer, "\"");
}

void json_put_hash(struct json_writer *writer, const char *name, uint64_t value)
{
    put_name(writer, name);
    put(writer, "\"%016llx\"", (unsigned long long)value);
}

void json_put_null(struct json_writer *writer, const char *name)
{
    put_name(writer, name);
    put(writer, "null");
}

void json_open_list(struct json_writer *writer, const char *name)
{
    put_name(writer, name);
    put(writer, "[");
    writer->comma = false;
}

void json_close_list(struct json_writer *writer)
{
    put(writer, "]");
    writer->comma = true;
}

void json_item_u64(struct json_writer *writer, uint64_t value)
{
    put_name(writer, NULL);
    put(writer, "%llu", (unsigned long long)value);
}
