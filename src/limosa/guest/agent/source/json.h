/* A reader for one flat JSON object (no nesting) and a writer into a bounded buffer. */
#ifndef LIMOSA_JSON_H
#define LIMOSA_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_kind { JSON_TEXT, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL };

struct json_field {
    const char *name;
    const char *text; /* the characters of a text, or those of a number */
    enum json_kind kind;
};

#define JSON_FIELDS 24

struct json_object {
    struct json_field fields[JSON_FIELDS];
    size_t count;
};

/* Parse `line` in place: names and values point into it. NULL, or what is wrong with it. */
const char *json_parse(char *line, struct json_object *object);
const struct json_field *json_find(const struct json_object *object, const char *name);

struct json_writer {
    char *bytes;
    size_t length, room;
    bool overflow, comma;
};

void json_begin(struct json_writer *writer); /* { */
void json_end(struct json_writer *writer);   /* } and a line end */
void json_put_u64(struct json_writer *writer, const char *name, uint64_t value);
void json_put_real(struct json_writer *writer, const char *name, double value);
void json_put_bool(struct json_writer *writer, const char *name, bool value);
void json_put_text(struct json_writer *writer, const char *name, const char *value);
/* A 64-bit hash as 16 hexadecimal digits: not every JSON reader keeps 64 bits. */
void json_put_hash(struct json_writer *writer, const char *name, uint64_t value);
void json_put_null(struct json_writer *writer, const char *name);
void json_open_list(struct json_writer *writer, const char *name); /* name NULL: a list in a list */
void json_close_list(struct json_writer *writer);
void json_item_u64(struct json_writer *writer, uint64_t value);

#endif
