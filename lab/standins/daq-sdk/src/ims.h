/* Stand-in: this is not the DAQ's. Images of a partition. */
#include "net.h"

/* Ask `server` (HOST:PORT) for `what` (images or state) of a partition. The wire; -1 and why on standard error when there is none. */
int ims_open(const char *server, const char *partition, const char *what);
