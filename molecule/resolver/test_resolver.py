"""resolver, asked through glibc as every program asks it; /etc/hosts is left out, so that only the servers can answer."""

from __future__ import annotations

import pytest

FILE = "/etc/resolv.conf"
# Of a documentation network: nobody has it.
NOBODY = "192.0.2.53"


def names(host, address: str) -> list[str]:
    """The names that the servers know for ``address``."""
    return host.check_output(f"getent -s dns hosts {address}").split()[1:]


def addresses(host, name: str) -> set[str]:
    """The addresses that the servers know for ``name``."""
    return {line.split()[0] for line in host.check_output(f"getent -s dns ahostsv4 {name}").splitlines()}


def with_file(host, edit: str, command: str) -> str:
    """What ``command`` prints with a copy of the file, changed by sed's ``edit``, in a mount namespace that ends with it."""
    inner = f"mount --types tmpfs tmpfs /mnt && sed '{edit}' {FILE} >/mnt/resolv.conf && mount --bind /mnt/resolv.conf {FILE} && {command}"
    return host.check_output("unshare --mount sh -c %s", inner)


@pytest.mark.reads
def test_finds_the_servers_by_address_and_by_name(host, settings):
    """Reverse, forward, and forward without the domain where that one is searched."""
    for address in settings["resolver_nameservers"]:
        for name in names(host, address):
            short, _, domain = name.partition(".")
            assert address in addresses(host, name)
            if domain in settings["resolver_search"]:
                assert address in addresses(host, short)


@pytest.mark.reads
def test_a_name_that_does_not_exist_takes_no_time(host, settings):
    """All searched domains are tried within a second."""
    names(host, settings["resolver_nameservers"][0])
    assert host.run("timeout 1 getent -s dns ahostsv4 lsst-test-no-such-name").rc == 2


@pytest.mark.reads
def test_asks_every_server_that_it_should_and_no_other(host, settings):
    """What glibc has made of the file. The file is no link that another program leads elsewhere."""
    lines = [line.split() for line in host.file(FILE).content_string.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["nameserver"]] == settings["resolver_nameservers"]
    assert not host.file(FILE).is_symlink
    for address in settings["resolver_nameservers"]:
        assert address in with_file(host, f"/^nameserver/d; $a nameserver {address}", f"getent -s dns hosts {address}")


@pytest.mark.writes
def test_goes_on_with_one_server_dead(host, settings):
    """In a mount namespace of its own, a server that never answers comes first; the program still gets its answer."""
    address = settings["resolver_nameservers"][0]
    assert address in with_file(host, f"0,/^nameserver/s//nameserver {NOBODY}\\n&/", f"timeout 9 getent -s dns hosts {address}")


@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({"resolver_nameservers": []}, "resolver_nameservers is []. Allowed: one to three IPv4 addresses"),
        (
            {"resolver_nameservers": ["10.64.16.1", "ns1"]},
            "resolver_nameservers is ['10.64.16.1', 'ns1']. Allowed: one to three IPv4 addresses",
        ),
        ({"resolver_search": ["a", "b", "c", "d", "e", "f", "g"]}, "Allowed: at most six domains. Edit resolver_search"),
    ],
)
def test_refuses_what_would_resolve_nothing(host, apply, settings, variables, wrong):
    names(host, settings["resolver_nameservers"][0])
    done = apply(**variables)
    words = " ".join(done.stdout.split())
    assert done.returncode != 0 and wrong in words and "in inventories/production/group_vars/all/resolver.yml" in words
    assert names(host, settings["resolver_nameservers"][0])
