"""What the x509 tests share: a CA, a request for a service certificate, and the wish behind it."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509

from tests.ca import CA, Key, make_ca, make_csr, new_key
from workflows.x509.acceptance import Wish
from workflows.x509.names import Subject, SubjectAltNames


@pytest.fixture(scope="session")
def ca() -> CA:
    """Root and issuing CA; frozen, so one for all."""
    return make_ca()


@pytest.fixture
def key() -> Key:
    """Return the key behind the request."""
    return new_key()


@pytest.fixture
def wish() -> Wish:
    """Wish for a callbridge certificate: two names, one address, to act as server and client."""
    return Wish(
        subject=Subject(CN="cms.example.com"),
        sans=SubjectAltNames(dns=("cms.example.com", "cms1.example.com"), ip=("192.0.2.10",)),
        usages=frozenset({"server", "client"}),
    )


@pytest.fixture
def csr(key: Key) -> bytes:
    """Make the request for that wish; the address stands first, so that the last name is a DNS name."""
    names = [
        x509.IPAddress(ipaddress.ip_address("192.0.2.10")),
        x509.DNSName("cms.example.com"),
        x509.DNSName("cms1.example.com"),
    ]
    return make_csr("cms.example.com", names, key=key)
