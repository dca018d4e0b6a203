"""timesync, asked from outside: who serves, who follows, who is refused."""

import pytest

pytestmark = pytest.mark.reads


def test_follows_a_source_or_serves_on_its_own(host, settings):
    """A client has a selected source (^*); a server that lost all of them stays at its orphan stratum."""
    if settings["timesync_allow"]:
        # One more where it follows the site's other orphaned server.
        assert int(host.check_output("chronyc -c tracking").split(",")[2]) <= settings["timesync_orphan_stratum"] + 1
    else:
        assert host.process.filter(comm="chronyd")
        # Longer than three polls of 64 s, for a host that started before its servers.
        host.check_output("chronyc waitsync 240 0.5 0 1")
        assert any(line.startswith("^,*") for line in host.check_output("chronyc -c sources").splitlines())


def test_serves_only_if_asked_to(host, settings):
    """A running client listens on no NTP port; a server does."""
    assert host.process.filter(comm="chronyd")
    assert host.socket("udp://0.0.0.0:123").is_listening == bool(settings["timesync_allow"])


def test_never_sets_the_clock_of_a_container(host, settings):
    """With timesync_set_clock false the running chronyd, not only its file, has -x."""
    arguments = host.process.get(comm="chronyd", ppid=1).args.split()
    assert ("-x" in arguments) != settings["timesync_set_clock"]
