/* limosa-agent: measures and loads a guest from inside, told what to do over one byte stream. */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 65536
#define REPLY_BYTES 65536

static char line[LINE_BYTES];
static size_t line_length;
static bool line_too_long;
static char reply_bytes[REPLY_BYTES];

/* Serve the line that has been gathered; false when the agent has to end. */
static bool serve_line(struct transport *transport)
{
    struct json_writer reply = {.bytes = reply_bytes, .room = sizeof reply_bytes};
    size_t length = line_length;
    bool too_long = line_too_long, going_on;
    line_length = 0;
    line_too_long = false;
    line[length] = '\0';
    if (too_long)
        strcpy(line, "too long"); /* answered as what it is: not an object */
    else if (line[strspn(line, " \t\r")] == '\0' && strlen(line) == length)
        return true; /* an empty line only marks a new beginning */
    going_on = command_serve(line, &reply);
    transport_write(transport, reply.bytes, reply.length);
    return going_on;
}

static bool serve_bytes(struct transport *transport, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\n') {
            if (!serve_line(transport))
                return false;
        } else if (line_length < LINE_BYTES - 1) {
            line[line_length++] = bytes[i];
        } else {
            line_too_long = true;
        }
    }
    return true;
}

static int serve(struct transport *transport)
{
    char bytes[4096];
    for (;;) {
        long length = transport_read(transport, bytes, sizeof bytes);
        if (length < 0)
            return 0;
        if (length == 0) { /* what a vanished client began is not finished by the next one */
            line_length = 0;
            line_too_long = false;
        } else if (!serve_bytes(transport, bytes, (size_t)length)) {
            return 0;
        }
    }
}

static int usage(void)
{
    fputs("usage: limosa-agent [--stdio | --socket PATH]\n"
          "Without an option the virtio-serial port org.limosa.agent.0 is used.\n", stderr);
    return 2;
}

int main(int count, char **arguments)
{
    struct transport transport = {.kind = TRANSPORT_PORT};
    if (count == 2 && strcmp(arguments[1], "--stdio") == 0) {
        transport.kind = TRANSPORT_STDIO;
    } else if (count == 3 && strcmp(arguments[1], "--socket") == 0) {
        transport.kind = TRANSPORT_SOCKET;
        transport.path = arguments[2];
    } else if (count != 1) {
        return usage();
    }
    command_quit_allowed = transport.kind != TRANSPORT_PORT;
    signal(SIGPIPE, SIG_IGN);
    if (transport_open(&transport) < 0) {
        perror("limosa-agent: opening the control channel");
        return 1;
    }
    int status = serve(&transport);
    transport_close(&transport);
    return status;
}
