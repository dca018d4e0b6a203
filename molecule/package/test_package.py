"""package, asked through apt itself: where packages come from, which versions, and that nothing comes by itself."""

from fnmatch import fnmatch

import pytest


def configuration(host) -> dict[str, str]:
    """apt's effective configuration."""
    lines = host.check_output("apt-config dump").splitlines()
    return {key: value.strip('";') for key, value in (line.split(" ", 1) for line in lines)}


def candidate(host, name: str) -> str:
    """The version of ``name`` that apt would install."""
    return host.check_output(f"apt-cache policy {name} | sed -n 's/^ *Candidate: //p'")


@pytest.mark.reads
def test_nothing_comes_by_itself(host, settings):
    """No recommended package, no timer that upgrades, no unattended upgrade."""
    apt = configuration(host)
    assert (apt["APT::Install-Recommends"], apt["APT::Periodic::Enable"]) == ("false", "0")
    assert not host.check_output("systemctl list-timers --no-legend 'apt-daily*'")
    # A snapshot does not even know it.
    assert candidate(host, "unattended-upgrades") in ("(none)", "")


@pytest.mark.reads
def test_base_packages_are_there(host, settings):
    assert [name for name in settings["package_base"] if not host.package(name).is_installed] == []


@pytest.mark.reads
def test_held_packages_keep_their_version(host, settings):
    """apt would install the chosen version, and neither apt nor dpkg moves away from it."""
    held = {entry["name"]: entry["version"] for entry in settings["package_held"]}
    assert set(host.check_output("apt-mark showhold").split()) == set(held)
    assert [name for name, version in held.items() if not fnmatch(candidate(host, name), version)] == []
    upgrade = host.check_output("apt-get --simulate --quiet dist-upgrade").splitlines()
    assert [line for line in upgrade if line.startswith("Inst") and line.split()[1] in held] == []


@pytest.mark.writes
def test_packages_come_from_where_they_should(host, settings):
    """A package is really fetched: of the snapshot alone if there is one, and over a connection to the proxy if there is one."""
    assert configuration(host).get("Acquire::http::Proxy", "") == settings["package_proxy"]
    archives = set(host.check_output("apt-get indextargets --format '$(REPO_URI)$(RELEASE)'").split())
    assert not settings["package_archive"] or archives == {f"{settings['package_archive']}/{settings['package_snapshot']}"}
    host.check_output("cd $(mktemp --directory) && apt-get --quiet download tree && test -s tree_*.deb && rm --recursive $PWD")
