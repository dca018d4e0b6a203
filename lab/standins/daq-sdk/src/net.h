/* Stand-in: this is not the DAQ's. A message is its length, the CRC-32 of its content (4 bytes each, the highest first), and the content. */
#include <stddef.h>
#include <stdint.h>

/* The part of the release that must agree between client and server; the release's name. */
int net_api(void);
const char *net_build(void);
/* Send a message; -1 when the other end is gone. */
int net_send(int wire, const void *content, uint32_t size);
/* Receive one of at most `size` bytes; how many it has, -1 when the other end is gone or sent anything else. */
long net_receive(int wire, void *content, uint32_t size);
