"""How many lines a second a collector of logs takes in without losing one, its processor time and memory; nothing asserted, one table.

The three containers of the Molecule scenario ``log_collector``; on its client one, two or four rsyslogs read a file and send it as the role
``logging`` does. ``python tests/benchmarks/collect.py [LINES]``: lines of 120 bytes in all, 100,000 unless told.
"""

from __future__ import annotations

import os
import sys
import time

from containers import on, scenario

CLIENT, COLLECTOR = "log-collector-client", "log-collector-server"
SENDERS = (1, 2, 4)
WORK = "/run/lsst-bench"
CONFIGURATION = """
module(load="imfile")
module(load="omrelp" tls.tlsLib="openssl")
main_queue(queue.type="Direct")
input(type="imfile" file="{work}/{number}.lines" tag="lsst-bench:")
action(type="omrelp" target="198.51.100.182" port="1514" template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1" {tls})
"""
TLS = 'tls="on" tls.authMode="name" tls.permittedPeer="log-collector-server.test" tls.caCert="/etc/lsst/tls/root.crt"'
TLS += ' tls.myCert="/etc/lsst/tls/host.crt" tls.myPrivKey="/etc/lsst/tls/host.key"'
# Of rsyslog and of what it asks for room: ticks of processor time, and KiB of memory.
USED = "for p in $(systemctl show --property MainPID --value log-collector) $(pgrep -f log-collector-room.*--gate); do"
USED += " cut -d' ' -f14,15 /proc/$p/stat; awk '/^VmRSS/{print $2}' /proc/$p/status; done"


def used() -> tuple[float, float]:
    """Seconds of processor time and MB of memory that the collector has used so far."""
    numbers = [int(word) for word in on(COLLECTOR, USED).split()]
    ticks = sum(numbers[0::3]) + sum(numbers[1::3])
    return ticks / os.sysconf("SC_CLK_TCK"), sum(numbers[2::3]) / 1000


def arrived() -> int:
    """Lines of the benchmark in the collector's files."""
    return int(on(COLLECTOR, f"cat /var/log/collected/{CLIENT}/*.log | grep -c lsst-bench:", check=False) or 0)


def measure(senders: int, lines: int) -> str:
    """A row of the table: ``lines`` in all, by so many senders at once."""
    on(COLLECTOR, f"rm -f /var/log/collected/{CLIENT}/*; systemctl restart log-collector")
    on(CLIENT, f"rm -rf {WORK}; mkdir -p {WORK}")
    for number in range(senders):
        text = CONFIGURATION.format(work=WORK, number=number, tls=TLS)
        on(CLIENT, f"mkdir {WORK}/{number}; cat >{WORK}/{number}.conf <<'E'\n{text}\nE")
        on(CLIENT, f"seq --format '%0100.0f {number}' {lines // senders} >{WORK}/{number}.lines")
    wanted = lines // senders * senders
    began = time.monotonic()
    for number in range(senders):
        unit = f"--unit lsst-bench-{number} --working-directory {WORK}/{number}"
        on(CLIENT, f"systemd-run --quiet --collect {unit} rsyslogd -n -f {WORK}/{number}.conf -i NONE")
    last, since = 0, time.monotonic()
    # Until all are there, or none has come for ten seconds.
    while last < wanted and time.monotonic() - since < 10:
        time.sleep(0.5)
        if (now := arrived()) > last:
            last, since = now, time.monotonic()
    took = since - began
    seconds, megabytes = used()
    on(CLIENT, f"for n in $(seq 0 {senders - 1}); do systemctl kill --signal KILL lsst-bench-$n; done", check=False)
    return f"{senders:>8}{last:>10}{wanted - last:>8}{last / took:>10.0f}{seconds / took * 100:>8.0f} %{megabytes:>8.0f}"


def main(lines: int) -> int:
    print(f"{'senders':>8}{'lines':>10}{'lost':>8}{'lines/s':>10}{'of a CPU':>10}{'MB':>8}", flush=True)
    with scenario("log_collector"):
        # Nothing is passed on.
        on(COLLECTOR, "systemctl stop log-collector-forward")
        for senders in SENDERS:
            print(measure(senders, lines), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100000))
