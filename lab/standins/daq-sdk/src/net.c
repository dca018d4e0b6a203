/* Stand-in: this is not the DAQ's. Messages over a wire (libdaq_net). */
#include "net.h"
#include <arpa/inet.h>
#include <unistd.h>

int net_api(void) { return API; }
const char *net_build(void) { return BUILD; }

static uint32_t crc32(const unsigned char *content, size_t size) {
    uint32_t crc = ~0u;
    while (size--) {
        crc ^= *content++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static int all(int wire, unsigned char *content, size_t size, int receive) {
    while (size) {
        ssize_t part = receive ? read(wire, content, size) : write(wire, content, size);
        if (part <= 0)
            return -1;
        content += part, size -= part;
    }
    return 0;
}

int net_send(int wire, const void *content, uint32_t size) {
    uint32_t head[2] = {htonl(size), htonl(crc32(content, size))};
    return all(wire, (void *)head, sizeof head, 0) || all(wire, (void *)content, size, 0) ? -1 : 0;
}

long net_receive(int wire, void *content, uint32_t size) {
    uint32_t head[2];
    if (all(wire, (void *)head, sizeof head, 1) || ntohl(head[0]) > size || all(wire, content, ntohl(head[0]), 1))
        return -1;
    return crc32(content, ntohl(head[0])) == ntohl(head[1]) ? (long)ntohl(head[0]) : -1;
}
