from __future__ import annotations

import pytest

from tests.ca import crlf, make_ca, pem, with_private_key
from workflows.errors import CertificateError, ChainIncomplete
from workflows.x509.bundle import ca_bundle, full_chain, split, trust_with, trust_without
from workflows.x509.chain import order_chain


@pytest.fixture
def chain(ca, csr):
    return order_chain(ca.sign(csr), ca.issuers)


def test_full_chain_is_entity_intermediates_root(chain):
    """Row S8, with or without the leaf in front of the chain."""
    assert full_chain(chain[0], chain) == full_chain(chain[0], chain[1:]) == pem(chain)


def test_ca_bundle_is_the_same_without_the_entity(chain):
    """Row S8."""
    assert ca_bundle(chain) == pem(chain[1:])


def test_files_end_in_exactly_one_line_end_and_keep_to_64_columns(chain):
    """Row S8 and RFC 7468."""
    for data in (full_chain(chain[0], chain), ca_bundle(chain)):
        assert (data.endswith(b"-----END CERTIFICATE-----\n"), b"\r" in data, b"\n\n" in data) == (True, False, False)
        assert max(map(len, data.splitlines())) == 64


def test_self_signed_certificate_has_no_bundle(ca):
    """A bundle without certificates would be an empty file on a server."""
    with pytest.raises(ChainIncomplete):
        ca_bundle((ca.root.certificate,))


def test_split_gives_back_what_was_joined(chain):
    """Also from a file with other line ends."""
    assert split(full_chain(chain[0], chain)) == split(crlf(chain)) == chain


@pytest.mark.parametrize("data", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nMII"])
def test_split_refuses_what_it_cannot_read_whole(data):
    """Half a trust store must not be written back."""
    with pytest.raises(CertificateError):
        split(data)


def test_split_refuses_a_private_key(chain, key):
    """A bundle with a private key is not passed on."""
    with pytest.raises(CertificateError, match="private key"):
        split(with_private_key(chain, key))


def test_trust_store_keeps_the_old_and_adds_the_new(ca, chain):
    """Old first, new at the end, none twice."""
    new = make_ca(name="New").root.certificate
    store = trust_with(pem([ca.root.certificate]), [new, ca.root.certificate, new])
    assert split(store) == (ca.root.certificate, new)


def test_trust_store_begins_empty(ca):
    """A store that is not there yet is b""."""
    assert trust_with(b"", [ca.root.certificate]) == pem([ca.root.certificate])


def test_old_certificates_are_taken_out(ca):
    """After all peers have changed over."""
    new = make_ca(name="New").root.certificate
    assert trust_without(pem([ca.root.certificate, new]), [ca.root.certificate]) == pem([new])


def test_trust_store_is_never_emptied(ca):
    """An empty store would lock every peer out."""
    with pytest.raises(CertificateError, match="no certificate would be left"):
        trust_without(pem([ca.root.certificate]), [ca.root.certificate])
