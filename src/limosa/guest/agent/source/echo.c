/* Echo on UDP and TCP with the same port number: round trips, and a request/response service. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 64
#define PENDING_BYTES 4096
#define DATAGRAM_BYTES 65536
#define FIXED 3 /* the polled descriptors that are no clients: wake-up, UDP, TCP listener */
#define PORT_TRIES 16

struct client {
    size_t length, sent; /* bytes waiting in `pending`, and how many of them are out */
    char pending[PENDING_BYTES];
};

static struct worker worker = WORKER_INIT;
static struct pollfd pollers[FIXED + CLIENTS];
static struct client clients[CLIENTS];
static char datagram[DATAGRAM_BYTES];
static _Atomic uint64_t datagrams, stream_bytes, accepted, connected;

static void echo_datagrams(int udp)
{
    struct sockaddr_storage from;
    for (int i = 0; i < CLIENTS; i++) { /* bounded, so that TCP gets its turn */
        socklen_t from_length = sizeof from;
        ssize_t length = recvfrom(udp, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &from_length);
        if (length < 0)
            return;
        if (sendto(udp, datagram, (size_t)length, 0, (struct sockaddr *)&from, from_length) == length)
            datagrams++;
    }
}

static void accept_client(int listener)
{
    int one = 1, client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0)
        return;
    for (int i = 0; i < CLIENTS; i++) {
        if (pollers[FIXED + i].fd >= 0)
            continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pollers[FIXED + i] = (struct pollfd){.fd = client, .events = POLLIN};
        clients[i].length = clients[i].sent = 0;
        accepted++;
        connected++;
        return;
    }
    close(client); /* all places are taken */
}

static void drop_client(struct pollfd *poller)
{
    close(poller->fd);
    poller->fd = -1;
    connected--;
}

/* Sends what is pending; the client is read again only when all of it is out. */
static void echo_stream(struct pollfd *poller, struct client *client)
{
    if (client->length == 0) {
        ssize_t length = recv(poller->fd, client->pending, PENDING_BYTES, 0);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (length <= 0) {
            drop_client(poller);
            return;
        }
        client->length = (size_t)length;
        client->sent = 0;
    }
    ssize_t sent = send(poller->fd, client->pending + client->sent, client->length - client->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        drop_client(poller);
        return;
    }
    if (sent > 0) {
        client->sent += (size_t)sent;
        stream_bytes += (uint64_t)sent;
    }
    if (client->sent == client->length)
        client->length = 0;
    poller->events = client->length ? POLLOUT : POLLIN;
}

static void *run_echo(void *argument)
{
    while (worker_enter(argument)) {
        worker_leave(argument);
        if (poll(pollers, FIXED + CLIENTS, -1) < 0)
            continue;
        if (pollers[1].revents)
            echo_datagrams(pollers[1].fd);
        for (int i = 0; i < CLIENTS; i++)
            if (pollers[FIXED + i].fd >= 0 && pollers[FIXED + i].revents)
                echo_stream(&pollers[FIXED + i], &clients[i]);
        if (pollers[2].revents)
            accept_client(pollers[2].fd);
    }
    return NULL;
}

static void close_all(void)
{
    for (int i = 0; i < FIXED + CLIENTS; i++) {
        if (pollers[i].fd >= 0)
            close(pollers[i].fd);
        pollers[i].fd = -1;
    }
    connected = 0;
}

/* Both families where the kernel has IPv6, else IPv4 alone. Port 0 takes a free one. */
static int bind_any(int type, uint16_t *port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(*port)};
    int zero = 0, one = 1, made = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool dual = made >= 0 && setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) == 0;
    if (!dual) {
        if (made >= 0)
            close(made);
        made = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    if (made < 0)
        return -1;
    if (type == SOCK_STREAM)
        setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr *address = dual ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    socklen_t length = dual ? sizeof six : sizeof four;
    if (bind(made, address, length) < 0 || (type == SOCK_STREAM && listen(made, CLIENTS) < 0)
        || getsockname(made, address, &length) < 0) {
        int failure = errno;
        close(made);
        errno = failure;
        return -1;
    }
    *port = ntohs(dual ? six.sin6_port : four.sin_port);
    return made;
}

static bool open_sockets(struct call *call, uint16_t *port)
{
    uint16_t wanted = *port;
    for (int i = 0; i < (wanted ? 1 : PORT_TRIES); i++) {
        *port = wanted;
        if ((pollers[2].fd = bind_any(SOCK_STREAM, port)) < 0)
            break;
        if ((pollers[1].fd = bind_any(SOCK_DGRAM, port)) >= 0)
            return true;
        int failure = errno;
        close(pollers[2].fd);
        pollers[2].fd = -1;
        errno = failure;
    }
    call_fail_errno(call, "listening for echo clients", errno);
    return false;
}

static void serve_start(struct call *call)
{
    uint16_t port = (uint16_t)arg_u64(call, "port", 7007, 0, 65535);
    if (call->kind)
        return;
    if (worker.started) {
        call_fail(call, "busy", "the echo is running already: stop it first");
        return;
    }
    for (int i = 0; i < FIXED + CLIENTS; i++)
        pollers[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    datagrams = stream_bytes = accepted = connected = 0;
    if (!open_sockets(call, &port))
        return;
    pollers[0].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pollers[0].fd < 0)
        call_fail_errno(call, "opening an eventfd", errno);
    if (call->kind || !worker_start(call, &worker, run_echo))
        close_all();
    json_put_u64(call->reply, "port", port);
}

static void serve_status(struct call *call)
{
    json_put_bool(call->reply, "running", worker.started);
    json_put_u64(call->reply, "datagrams", datagrams);
    json_put_u64(call->reply, "stream_bytes", stream_bytes);
    json_put_u64(call->reply, "accepted", accepted);
    json_put_u64(call->reply, "connected", connected);
}

static void serve_stop(struct call *call)
{
    if (worker.started) {
        atomic_store(&worker.stopping, true);
        eventfd_write(pollers[0].fd, 1);
        worker_stop(&worker);
        close_all();
    }
    serve_status(call);
}

const struct command echo_commands[] = {
    {"echo.start", " port ", serve_start},
    {"echo.status", " ", serve_status},
    {"echo.stop", " ", serve_stop},
    {0}};
