/* From a request line to a reply: arguments, the table of commands, and the commands of the agent itself. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef LIMOSA_DIGEST
#define LIMOSA_DIGEST ""
#endif

bool command_quit_allowed;
static bool quit_asked;

void call_fail(struct call *call, const char *kind, const char *format, ...)
{
    va_list arguments;
    if (call->kind)
        return;
    call->kind = kind;
    va_start(arguments, format);
    vsnprintf(call->error, sizeof call->error, format, arguments);
    va_end(arguments);
}

void call_fail_errno(struct call *call, const char *what, int number)
{
    call_fail(call, "machine", "%s failed: %s", what, strerror(number));
}

static const struct json_field *find(struct call *call, const char *name, bool needed)
{
    const struct json_field *field = json_find(call->request, name);
    if (needed && !field)
        call_fail(call, "argument", "the argument %s is missing", name);
    return field;
}

static uint64_t read_u64(struct call *call, const struct json_field *field, uint64_t low, uint64_t high)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(field->text, &end, 10);
    bool sound = field->kind == JSON_NUMBER && field->text[0] >= '0' && field->text[0] <= '9' && !*end
                 && !errno;
    if (!sound || value < low || value > high)
        call_fail(call, "argument", "%s has to be a whole number from %llu to %llu", field->name,
                  (unsigned long long)low, (unsigned long long)high);
    return value;
}

uint64_t arg_u64(struct call *call, const char *name, uint64_t fallback, uint64_t low, uint64_t high)
{
    const struct json_field *field = find(call, name, false);
    return field ? read_u64(call, field, low, high) : fallback;
}

uint64_t arg_need_u64(struct call *call, const char *name, uint64_t low, uint64_t high)
{
    const struct json_field *field = find(call, name, true);
    return field ? read_u64(call, field, low, high) : low;
}

double arg_real(struct call *call, const char *name, double fallback, double low, double high)
{
    const struct json_field *field = find(call, name, false);
    if (!field)
        return fallback;
    char *end;
    double value = strtod(field->text, &end);
    if (field->kind != JSON_NUMBER || *end || !isfinite(value) || value < low || value > high) {
        call_fail(call, "argument", "%s has to be a number from %g to %g", name, low, high);
        return fallback;
    }
    return value;
}

bool arg_bool(struct call *call, const char *name, bool fallback)
{
    const struct json_field *field = find(call, name, false);
    if (!field)
        return fallback;
    if (field->kind != JSON_TRUE && field->kind != JSON_FALSE)
        call_fail(call, "argument", "%s has to be true or false", name);
    return field->kind == JSON_TRUE;
}

const char *arg_text(struct call *call, const char *name, const char *fallback)
{
    const struct json_field *field = find(call, name, false);
    if (!field)
        return fallback;
    if (field->kind == JSON_TEXT)
        return field->text;
    call_fail(call, "argument", "%s has to be a text", name);
    return fallback;
}

const char *arg_need_text(struct call *call, const char *name, size_t longest)
{
    const struct json_field *field = find(call, name, true);
    const char *text = field ? arg_text(call, name, "") : "";
    if (field && (!*text || strlen(text) > longest))
        call_fail(call, "argument", "%s has to have 1 to %zu characters", name, longest);
    return text;
}

static void serve_hello(struct call *call)
{
    json_put_u64(call->reply, "version", AGENT_VERSION);
    json_put_text(call->reply, "digest", LIMOSA_DIGEST);
    json_put_u64(call->reply, "pid", (uint64_t)getpid());
    json_put_u64(call->reply, "page_bytes", (uint64_t)sysconf(_SC_PAGESIZE));
    json_put_u64(call->reply, "memory_bytes", (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    json_put_u64(call->reply, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_put_u64(call->reply, "monotonic_ns", monotonic_ns());
    json_put_u64(call->reply, "realtime_ns", realtime_ns());
}

static void serve_clock(struct call *call)
{
    json_put_u64(call->reply, "monotonic_ns", monotonic_ns());
    json_put_u64(call->reply, "realtime_ns", realtime_ns());
}

static void serve_quit(struct call *call)
{
    if (command_quit_allowed)
        quit_asked = true;
    else
        call_fail(call, "state", "the agent of a guest does not quit: its port would stay without a reader");
}

static const struct command own_commands[] = {
    {"hello", " ", serve_hello}, {"clock", " ", serve_clock}, {"quit", " ", serve_quit}, {0}};

static const struct command *const parts[] = {
    own_commands, ticks_commands, echo_commands, memory_commands,
    region_commands, disk_commands, cpu_commands};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const struct command *command = parts[i]; command->name; command++)
            if (strcmp(command->name, name) == 0)
                return command;
    return NULL;
}

/* A misspelt argument would otherwise be replaced by its default, and the measurement be another one. */
static void check_names(struct call *call, const struct command *command)
{
    char spaced[64];
    for (size_t i = 0; i < call->request->count; i++) {
        const char *name = call->request->fields[i].name;
        if (strcmp(name, "id") == 0 || strcmp(name, "do") == 0)
            continue;
        int length = snprintf(spaced, sizeof spaced, " %s ", name);
        if (length < 0 || (size_t)length >= sizeof spaced || strpbrk(name, " ") || !*name
            || !strstr(command->arguments, spaced))
            call_fail(call, "argument", "%s has no argument %.64s", command->name, name);
    }
}

static void serve_request(struct call *call)
{
    const struct json_field *what = json_find(call->request, "do");
    if (!what || what->kind != JSON_TEXT) {
        call_fail(call, "argument", "the field do is missing: it names the command");
        return;
    }
    const struct command *command = find_command(what->text);
    if (!command) {
        call_fail(call, "argument", "there is no command %.64s", what->text);
        return;
    }
    check_names(call, command);
    if (!call->kind)
        command->serve(call);
}

static void begin_reply(struct json_writer *reply, bool has_id, uint64_t id, bool ok)
{
    json_begin(reply);
    if (has_id)
        json_put_u64(reply, "id", id);
    else
        json_put_null(reply, "id");
    json_put_bool(reply, "ok", ok);
}

bool command_serve(char *line, struct json_writer *reply)
{
    struct json_object request;
    struct call call = {.request = &request, .reply = reply};
    uint64_t id = 0;
    bool has_id = false;
    quit_asked = false;
    const char *broken = json_parse(line, &request);
    if (broken) {
        call_fail(&call, "argument", "%s", broken);
    } else {
        id = arg_need_u64(&call, "id", 1, (1ull << 53) - 1); /* what every JSON reader keeps exactly */
        has_id = !call.kind;
    }
    begin_reply(reply, has_id, id, true);
    if (!call.kind)
        serve_request(&call);
    if (!call.kind && reply->overflow)
        call_fail(&call, "state", "the reply would be too long");
    if (call.kind) {
        begin_reply(reply, has_id, id, false);
        json_put_text(reply, "kind", call.kind);
        json_put_text(reply, "error", call.error);
    }
    json_end(reply);
    return !quit_asked;
}
