from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.ca import ENCODINGS, der, make_csr, new_key, pem, with_private_key
from workflows.x509.pile import LARGEST_FILE, read_pile
from workflows.x509.request import read_request


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_same_certificates(encoding, ca, csr):
    """What is only an encoding is normalized, not refused."""
    everything = ca.deliver(csr).everything
    pile = read_pile({"delivery": ENCODINGS[encoding](everything)})
    assert ({found.certificate for found in pile.certificates}, pile.problems) == (set(everything), ())


def test_der_and_bare_base64_are_read(ca, csr):
    """One certificate in bytes, or its base64 as a portal shows it."""
    certificate = ca.sign(csr)
    data = {"a.cer": der([certificate]), "b.txt": base64.encodebytes(der([ca.root.certificate]))}
    found = [(found.source, found.certificate) for found in read_pile(data).certificates]
    assert found == [("a.cer", certificate), ("b.txt", ca.root.certificate)]


def test_same_certificate_twice_counts_once(ca):
    """The first source is kept."""
    data = {name: pem([ca.root.certificate]) for name in ("one.pem", "two.pem")}
    assert [found.source for found in read_pile(data).certificates] == ["one.pem"]


def test_requests_are_found_beside_certificates(ca, csr):
    """The CSR often comes back with the certificate."""
    pile = read_pile({"mixed": csr + pem([ca.root.certificate])})
    assert [found.request for found in pile.requests] == [read_request(csr)]
    assert len(pile.certificates) == 1


def private_key_files(certificate: x509.Certificate) -> dict[str, bytes]:
    key = new_key()
    plain, secret = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    forms = serialization.PrivateFormat
    return {
        "pkcs8.pem": with_private_key([certificate], key),
        "sec1.pem": key.private_bytes(serialization.Encoding.PEM, forms.TraditionalOpenSSL, plain),
        "encrypted.pem": key.private_bytes(serialization.Encoding.PEM, forms.PKCS8, secret),
        "old.pem": key.private_bytes(serialization.Encoding.PEM, forms.TraditionalOpenSSL, secret),
        "pkcs8.der": key.private_bytes(serialization.Encoding.DER, forms.PKCS8, plain),
        "encrypted.der": key.private_bytes(serialization.Encoding.DER, forms.PKCS8, secret),
        "pkcs12.pfx": pkcs12.serialize_key_and_certificates(None, key, None, None, secret),
    }


@pytest.mark.parametrize(
    "name", ["pkcs8.pem", "sec1.pem", "encrypted.pem", "old.pem", "pkcs8.der", "encrypted.der", "pkcs12.pfx"]
)
def test_private_key_is_reported_and_not_kept(name, ca):
    """A private key in the pile is a finding; nothing of it is in the result."""
    data = private_key_files(ca.root.certificate)[name]
    pile = read_pile({name: data})
    assert (pile.private_keys, [(problem.where, "private key" in problem.what) for problem in pile.problems]) == (
        (name,),
        [(name, True)],
    )
    body = next((line for line in data.splitlines() if len(line) == 64), data[40:80])
    assert body.decode("latin-1") not in repr(pile)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "there is no certificate in this file"),
        (b"<html>Please log in</html>", "there is no certificate in this file"),
        (b"AAAA", "there is no certificate in this file"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB", "a CERTIFICATE block is cut off or damaged"),
        (b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "a CERTIFICATE block is cut off or damaged"),
        (b"-----BEGIN PKCS7-----\nMIIB\n-----END PKCS7-----\n", "a PKCS7 block is cut off or damaged"),
        (b"x" * (LARGEST_FILE + 1), f"the file has {LARGEST_FILE + 1} bytes; at most {LARGEST_FILE} are read"),
    ],
)
def test_useless_file_is_a_problem_with_its_name(data, sentence):
    """Garbage gives a finding, never an exception."""
    assert [(problem.where, problem.what) for problem in read_pile({"f": data}).problems] == [("f", sentence)]


def test_cut_block_does_not_swallow_the_next_one(ca):
    """A block without its END line is reported, the one after it is still read."""
    cut = pem([ca.issuing.certificate]).rpartition(b"-----END")[0]
    pile = read_pile({"f": cut + pem([ca.root.certificate])})
    assert [found.certificate for found in pile.certificates] == [ca.root.certificate]
    assert len(pile.problems) == 1


def test_blocks_that_are_no_concern_are_passed_over(ca):
    """EC PARAMETERS and the like are neither found nor a problem."""
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    pile = read_pile({"f": parameters + pem([ca.root.certificate])})
    assert (len(pile.certificates), pile.problems) == (1, ())


def test_several_requests_of_several_files_keep_their_sources():
    """Each says where it came from."""
    files = {f"{name}.csr": make_csr(f"{name}.example.com") for name in ("a", "b")}
    assert [found.source for found in read_pile(files).requests] == ["a.csr", "b.csr"]


def test_pile_without_end_is_cut_and_told(ca, monkeypatch):
    """A whole trust store is no delivery."""
    monkeypatch.setattr("workflows.x509.pile.MOST_CERTIFICATES", 1)
    pile = read_pile({"store.pem": pem(ca.issuers)})
    assert [found.certificate for found in pile.certificates] == [ca.issuing.certificate]
    assert [problem.where for problem in pile.problems] == ["pile"]


def test_certificate_with_a_damaged_extension_is_a_problem_at_once(ca, csr):
    """An empty extended key usage parses outside and not inside; nobody later stumbles over it."""
    pile = read_pile({"f": pem([ca.sign(csr, usages=())])})
    assert (pile.certificates, [problem.where for problem in pile.problems]) == ((), ["f"])
