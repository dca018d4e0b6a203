/* Stand-in: this is not the DAQ's. Images of a partition (libdaq_ims). */
#include "ims.h"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ims_open(const char *server, const char *partition, const char *what) {
    char host[256], here[256] = "", text[1024];
    const char *port = strrchr(server, ':');
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    int wire = -1;
    if (!port || snprintf(host, sizeof host, "%.*s", (int)(port - server), server) >= (int)sizeof host || getaddrinfo(host, port + 1, &hints, &found)) {
        fprintf(stderr, "%s is no server\n", server);
        return -1;
    }
    wire = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(wire, found->ai_addr, found->ai_addrlen)) {
        fprintf(stderr, "%s does not answer\n", server);
        return -1;
    }
    gethostname(here, sizeof here - 1);
    snprintf(text, sizeof text, "%d %s %s %s %s", net_api(), net_build(), here, partition, what);
    long size = net_send(wire, text, strlen(text)) ? -1 : net_receive(wire, text, sizeof text - 1);
    if (size < 0 || strncmp(text, "ok", 2)) {
        fprintf(stderr, "%s refuses: %.*s\n", server, size < 0 ? 0 : (int)size, text);
        close(wire);
        return -1;
    }
    return wire;
}
