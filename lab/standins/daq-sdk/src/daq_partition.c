/* Stand-in: this is not the DAQ's. daq_partition HOST:PORT PARTITION: print the state of a partition, its sources and clients, a line each. */
#include "ims.h"
#include <stdio.h>

int main(int count, char **word) {
    static char text[1 << 16];
    int wire = count == 3 ? ims_open(word[1], word[2], "state") : (fprintf(stderr, "daq_partition HOST:PORT PARTITION\n"), -1);
    long size = wire < 0 ? -1 : net_receive(wire, text, sizeof text);
    return size < 0 || fwrite(text, 1, size, stdout) != (size_t)size;
}
