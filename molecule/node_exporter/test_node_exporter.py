"""node_exporter, asked as the monitor asks it: over HTTP."""

import pytest

TEXTFILE = "/var/lib/prometheus/node-exporter/lsst-test.prom"


def scrape(host, settings) -> list[str]:
    """Every line of the metrics page."""
    address = "127.0.0.1" if settings["node_exporter_listen"] == "0.0.0.0" else settings["node_exporter_listen"]
    return host.check_output(f"curl --fail --silent --max-time 10 http://{address}:{settings['node_exporter_port']}/metrics").splitlines()


@pytest.mark.reads
def test_shows_this_machine(host, settings):
    """The metrics are this host's, not those of another one behind the same port."""
    name = host.check_output("uname --nodename")
    assert any(f'nodename="{name}"' in line for line in scrape(host, settings) if line.startswith("node_uname_info{"))


@pytest.mark.reads
def test_collects_what_it_is_asked_to(host, settings):
    """The disabled collectors are off, and the others are many."""
    running = {line.split('"')[1] for line in scrape(host, settings) if line.startswith("node_scrape_collector_success")}
    assert not running & set(settings["node_exporter_disable"])
    assert {"cpu", "filesystem", "meminfo", "netdev", "textfile", "timex"} <= running


@pytest.mark.reads
def test_listens_only_where_it_is_told_to(host, settings):
    ports = host.check_output("ss --listening --tcp --numeric --processes --no-header").splitlines()
    own = [line.split()[3].replace("*", "0.0.0.0") for line in ports if "prometheus-node" in line]
    assert own == [f"{settings['node_exporter_listen']}:{settings['node_exporter_port']}"]


@pytest.mark.reads
def test_can_do_nothing_but_look(host):
    """The running process has its own user, no capability, no way to new ones, and a filter of system calls."""
    status = dict(line.split(":\t", 1) for line in host.check_output("cat /proc/$(pidof prometheus-node-exporter)/status").splitlines())
    user = host.check_output("id --user node-exporter")
    assert status["Uid"].split() == [user] * 4
    assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")


@pytest.mark.writes
def test_shows_what_other_services_write(host, settings):
    """A metric in a file of the text directory appears with the next scrape."""
    try:
        host.check_output(f"echo 'lsst_test_metric 42' >{TEXTFILE}")
        assert "lsst_test_metric 42" in scrape(host, settings)
    finally:
        host.run(f"rm --force {TEXTFILE}")
