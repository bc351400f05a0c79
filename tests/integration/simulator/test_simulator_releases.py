"""What 2.9 has and 3.x has not, and the other way round."""

from collections.abc import Callable

import pytest
from simulator_client import refused, talk

from simulator.fleet import FleetHandle, FleetSettings, start_fleet_in_thread

UNKNOWN = "Unknown command: "


@pytest.mark.parametrize(
    ("release", "line", "known"),
    [
        ("2.9", "webbridge", True),
        ("3.9", "webbridge", False),
        ("2.9", "xmpp", True),
        ("3.9", "xmpp", False),
        ("2.9", "loadbalancer list", True),
        ("3.9", "loadbalancer list", False),
        ("2.9", "trunk list", True),
        ("2.9", "h323_gateway", True),
        ("3.9", "h323_gateway", False),
        ("3.9", "webbridge3", True),
        ("2.9", "recorder trust none", True),
        ("3.9", "recorder trust none", False),
        ("2.9", "recorder sip certs none", False),
        ("3.9", "recorder sip certs none", True),
        ("3.2", "scheduler", False),
        ("3.3", "scheduler", True),
        ("3.7", "callbridge ucm verify enable", False),
        ("3.8", "callbridge ucm verify enable", True),
    ],
)
def test_commands_of_a_release(start_fleet: Callable[..., FleetHandle], release: str, line: str, known: bool) -> None:
    """Each release knows its commands and no others."""
    assert (not start_fleet(release=release).execute("cmscore1", line).startswith(UNKNOWN)) is known


def test_database_roles_in_the_words_of_the_release(start_fleet: Callable[..., FleetHandle]) -> None:
    """2.9 says Master and Slave, 3.x Primary and Replica; the fourth node is connected and has three files."""
    old, new = start_fleet(release="2.9", nodes=4), start_fleet(nodes=4)
    assert ": Connected Master\n" in talk(old, "cmscore1", "database cluster status")[0]
    assert ": Connected Replica ( In Sync )\n" in talk(new, "cmscore2", "database cluster status")[0]
    connected = talk(new, "cmscore4", "database cluster status")[0]
    assert "(me)" not in connected
    assert [line.split(":")[0].strip() for line in connected.split("Certificates\n")[1].splitlines()[:3]] == [
        "Client Key",
        "Client Certificate",
        "CA Certificate",
    ]


def test_xmpp_and_loadbalancer_of_29_can_be_disabled(start_fleet: Callable[..., FleetHandle]) -> None:
    """Services with and without a tag close their port when disabled."""
    fleet = start_fleet(release="2.9", services=("callbridge", "xmpp", "loadbalancer"))
    assert [refused(fleet, "cmscore1", port) for port in (5222, 4999)] == [False, False]
    talk(fleet, "cmscore1", "xmpp disable", "loadbalancer disable edge")
    assert [refused(fleet, "cmscore1", port) for port in (5222, 4999)] == [True, True]
    assert talk(fleet, "cmscore1", "loadbalancer enable other")[0] == "FAILURE: other does not exist\n"


def test_a_service_the_release_does_not_have_is_an_error() -> None:
    """A fleet of 3.9 with xmpp does not start."""
    with (
        pytest.raises(ValueError, match=r"release 3\.9 has no xmpp"),
        start_fleet_in_thread(FleetSettings(services=("xmpp",))),
    ):
        pass
