"""Where messages may go: this machine and link-local only when named, and with a list nothing else."""

from __future__ import annotations

import ipaddress

import pytest

from workflows.destinations import Destinations, is_public
from workflows.errors import InputError, SettingsError
from workflows.settings import Settings

SPECIAL = (
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
)


def allows(text: str, address: str, host: str = "receiver.example") -> bool:
    return Destinations.read(text).allow(host, ipaddress.ip_address(address))


@pytest.mark.parametrize("address", SPECIAL)
def test_asvs_1_3_6_this_machine_and_link_local_are_refused_unless_they_are_named(address):
    assert not allows("", address)
    assert not allows("0.0.0.0/0, ::/0", address)
    assert not allows("receiver.example", address)
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("169.254.7.0/24", "169.254.7.1"),
    ],
)
def test_a_special_address_is_allowed_by_its_own_network(text, address):
    assert allows(text, address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "10.1.2.3", "192.168.1.1", "fd12::1"])
def test_public_and_private_addresses_are_allowed_without_a_list(address):
    assert allows("", address)


def test_asvs_13_2_4_with_a_list_only_what_it_names_is_allowed():
    text = "Chat.example.com  10.0.0.0/8"
    assert allows(text, "93.184.215.14", "chat.example.com.")
    assert allows(text, "10.1.2.3")
    assert not allows(text, "93.184.215.14")
    assert not allows(text, "10.1.2.3".replace("10.", "11."), "chat.example.com.evil.example")


@pytest.mark.parametrize(
    ("text", "host", "fine"),
    [
        ("", "chat.example.com", True),
        ("", "10.1.2.3", True),
        ("", "localhost", False),
        ("", "169.254.169.254", False),
        ("chat.example.com", "chat.example.com", True),
        ("chat.example.com", "other.example.com", False),
        ("chat.example.com 10.0.0.0/8", "other.example.com", True),
        ("127.0.0.0/8", "localhost", True),
    ],
)
def test_what_the_host_itself_tells_is_told_at_once(text, host, fine):
    if fine:
        Destinations.read(text).check(host)
    else:
        with pytest.raises(InputError) as caught:
            Destinations.read(text).check(host)
        assert "CERTBRIDGE_WEBHOOK_HOSTS" in caught.value.remedy()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "https://chat.example.com", "a b_c -d", "10.0.0.0.0"])
def test_a_list_that_cannot_be_read_is_told(text):
    with pytest.raises(SettingsError, match="CERTBRIDGE_WEBHOOK_HOSTS"):
        Settings.load({"CERTBRIDGE_WEBHOOK_HOSTS": text})


def test_what_is_public():
    assert is_public(ipaddress.ip_address("93.184.215.14"))
    assert not is_public(ipaddress.ip_address("10.1.2.3"))
    assert not is_public(ipaddress.ip_address("fd12::1"))
