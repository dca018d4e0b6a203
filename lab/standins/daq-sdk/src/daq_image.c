/* Stand-in: this is not the DAQ's. daq_image HOST:PORT PARTITION DIRECTORY COUNT: take COUNT images (0: all that come), and name each, "<number>.raw" in
   DIRECTORY. The server hears of an image that is on the disk under its name, and gives one of which it has not heard to somebody else. */
#include "ims.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int keep(const char *directory, const char *number, const char *content, long size) {
    char new[4096], name[4096];
    snprintf(new, sizeof new, "%s/.%s.%d", directory, number, getpid());
    snprintf(name, sizeof name, "%s/%s.raw", directory, number);
    int file = open(new, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return file < 0 || write(file, content, size) != size || fsync(file) || close(file) || rename(new, name);
}

int main(int count, char **word) {
    static char image[1 << 20], answer[64];
    if (count != 5) {
        fprintf(stderr, "daq_image HOST:PORT PARTITION DIRECTORY COUNT\n");
        return 2;
    }
    int wire = ims_open(word[1], word[2], "images");
    for (long taken = 0, wanted = atol(word[4]); wire >= 0 && (!wanted || taken < wanted); taken++) {
        long size = net_send(wire, "next", 4) ? -1 : net_receive(wire, image, sizeof image - 1);
        if (size < 0) {
            fprintf(stderr, "%s is gone\n", word[1]);
            return 1;
        }
        image[size] = 0;
        /* An image begins with its number and a space. */
        char *pixels = memchr(image, ' ', size);
        if (!pixels)
            return 1;
        *pixels++ = 0;
        if (keep(word[3], image, pixels, image + size - pixels)) {
            perror(word[3]);
            return 1;
        }
        snprintf(answer, sizeof answer, "have %.20s", image);
        if (net_send(wire, answer, strlen(answer)))
            return 1;
        printf("%s taken by %s\n", image, net_build());
        fflush(stdout);
    }
    return wire < 0;
}
