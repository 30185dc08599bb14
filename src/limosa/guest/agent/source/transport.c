/* The byte stream to the host: a virtio-serial port, standard input and output, or a listening socket.
 *
 * On a port the host's side comes and goes with the client of QEMU's character device, most of all in a
 * live migration. While it is away, poll() reports POLLIN and POLLHUP at once, every time: waiting by
 * poll() would be a busy loop. The driver wakes waiters when the host's side changes, so an edge-triggered
 * epoll sleeps until then; a slow time limit stands behind it. */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_NAME "org.limosa.agent.0"
#define PORTS "/sys/class/virtio-ports"
#define SEARCH_NS (100 * NS_PER_MS)
#define FALLBACK_MS 1000
#define REOPEN_LOOK_MS 20

static bool port_is_ours(const char *port)
{
    char path[320], name[64] = "";
    snprintf(path, sizeof path, PORTS "/%.200s/name", port);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ours = fgets(name, sizeof name, file) && strcmp(strtok(name, "\n"), PORT_NAME) == 0;
    fclose(file);
    return ours;
}

static int port_find(void)
{
    char path[320];
    int found = -1;
    DIR *ports = opendir(PORTS);
    if (!ports)
        return -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(ports));) {
        if (entry->d_name[0] == '.' || !port_is_ours(entry->d_name))
            continue;
        snprintf(path, sizeof path, "/dev/%.200s", entry->d_name);
        found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    closedir(ports);
    return found;
}

/* The driver may be loaded after the agent is started, so the port is waited for. */
static int port_open(struct transport *transport)
{
    while ((transport->in = port_find()) < 0)
        sleep_until_ns(monotonic_ns() + SEARCH_NS);
    struct epoll_event edge = {.events = EPOLLIN | EPOLLHUP | EPOLLET};
    transport->out = transport->in;
    transport->epoll = epoll_create1(EPOLL_CLOEXEC);
    return transport->epoll < 0 ? -1 : epoll_ctl(transport->epoll, EPOLL_CTL_ADD, transport->in, &edge);
}

static int socket_open(struct transport *transport)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat old;
    if (strlen(transport->path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, transport->path);
    if (stat(transport->path, &old) == 0 && S_ISSOCK(old.st_mode))
        unlink(transport->path);
    transport->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (transport->listener < 0
        || bind(transport->listener, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return listen(transport->listener, 8);
}

int transport_open(struct transport *transport)
{
    transport->in = transport->out = transport->epoll = transport->listener = -1;
    transport->torn = false;
    if (transport->kind == TRANSPORT_SOCKET)
        return socket_open(transport);
    if (transport->kind == TRANSPORT_PORT)
        return port_open(transport);
    transport->in = STDIN_FILENO;
    transport->out = STDOUT_FILENO;
    return 0;
}

static long port_read(struct transport *transport, char *bytes, size_t room)
{
    struct epoll_event event;
    for (;;) {
        ssize_t length = read(transport->in, bytes, room);
        if (length > 0)
            return length;
        if (length < 0 && errno != EAGAIN && errno != EINTR && errno != EPIPE)
            break; /* the port itself went away */
        epoll_wait(transport->epoll, &event, 1, FALLBACK_MS);
        if (length == 0)
            return 0;
    }
    close(transport->in);
    close(transport->epoll);
    return port_open(transport) < 0 ? -1 : 0;
}

static long socket_read(struct transport *transport, char *bytes, size_t room)
{
    while (transport->in < 0) {
        transport->in = transport->out = accept4(transport->listener, NULL, NULL, SOCK_CLOEXEC);
        if (transport->in < 0 && errno != EINTR && errno != ECONNABORTED)
            return -1;
        transport->torn = false;
    }
    ssize_t length = read(transport->in, bytes, room);
    if (length > 0)
        return length;
    if (length < 0 && errno == EINTR)
        return 0;
    close(transport->in);
    transport->in = transport->out = -1;
    return 0;
}

long transport_read(struct transport *transport, char *bytes, size_t room)
{
    if (transport->kind == TRANSPORT_PORT)
        return port_read(transport, bytes, room);
    if (transport->kind == TRANSPORT_SOCKET)
        return socket_read(transport, bytes, room);
    ssize_t length;
    do
        length = read(transport->in, bytes, room);
    while (length < 0 && errno == EINTR);
    return length > 0 ? length : -1;
}

/* On a port a new client's first request can be here before the driver has heard that the host's side is
 * open (the two come by different queues). So a reply is kept until somebody is there: without a client there
 * are no requests to be held up, and the next client passes over what is not for it. */
static bool wait_writable(struct transport *transport)
{
    struct pollfd poller = {.fd = transport->out, .events = POLLOUT};
    struct epoll_event event;
    for (;;) {
        if (poll(&poller, 1, FALLBACK_MS) <= 0)
            continue;
        if (!(poller.revents & (POLLHUP | POLLERR)))
            return true;
        if (transport->kind != TRANSPORT_PORT)
            return false;
        epoll_wait(transport->epoll, &event, 1, REOPEN_LOOK_MS);
    }
}

void transport_write(struct transport *transport, const char *bytes, size_t length)
{
    static const char line_end[] = "\n";
    if (transport->torn) {
        transport->torn = false;
        transport_write(transport, line_end, 1);
        if (transport->torn)
            return;
    }
    while (length && transport->out >= 0) {
        ssize_t sent = write(transport->out, bytes, length);
        if (sent > 0) {
            bytes += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN ? !wait_writable(transport) : errno != EINTR) {
            break; /* nobody is there to read it */
        }
    }
    transport->torn = length > 0;
}

void transport_close(struct transport *transport)
{
    if (transport->kind == TRANSPORT_SOCKET)
        unlink(transport->path);
}
