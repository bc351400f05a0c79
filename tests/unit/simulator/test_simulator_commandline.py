"""The words of a line, the attributes of a request, the releases."""

import pytest
from cryptography import x509

from simulator import pki
from simulator.__main__ import read_faults, read_latency
from simulator.appliance import split_words
from simulator.releases import Release, available


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pki  list ", ["pki", "list"]),
        ('pki csr a CN:b OU:"Cisco Support" O:x', ["pki", "csr", "a", "CN:b", "OU:Cisco Support", "O:x"]),
        ('a "" b', ["a", "", "b"]),
        ("", []),
    ],
)
def test_double_quotes_group_words(line: str, words: list[str]) -> None:
    """Spaces separate words except between double quotes."""
    assert split_words(line) == words


def test_open_quote_is_an_error() -> None:
    """A quotation mark that is never closed cannot be read."""
    with pytest.raises(ValueError, match="open"):
        split_words('CN:"open')


def test_alternative_names_are_told_apart() -> None:
    """IP addresses, e-mail addresses and DNS names each become their own kind."""
    wish = pki.read_attributes(["CN:a.example.com", "subjectAltName:a.example.com,10.0.0.1,ops@example.com"])
    kinds = [type(name) for name in wish.names]
    assert (wish.common_name, kinds) == ("a.example.com", [x509.DNSName, x509.IPAddress, x509.RFC822Name])


@pytest.mark.parametrize("word", ["C:KOR", "CN:", "XX:y", "nonsense", "subjectAltName:"])
def test_bad_attributes_are_refused(word: str) -> None:
    """Unknown, empty and malformed attributes are named in the refusal."""
    with pytest.raises(pki.AttributeRejected, match=word):
        pki.read_attributes([word])


def test_an_attribute_given_twice_is_refused() -> None:
    """The second CN is not silently dropped."""
    with pytest.raises(pki.AttributeRejected, match="CN:b"):
        pki.read_attributes(["CN:a", "CN:b"])


def test_releases_are_compared_by_number() -> None:
    """3.12 is later than 3.9."""
    assert Release.parse("3.12") > Release.parse("3.9.1")


def test_the_longest_beginning_decides_about_a_command() -> None:
    """`recorder` is in every release, `recorder sip` from 3.0 on only."""
    old = Release(2, 9)
    known = [available(words, old) for words in (("recorder",), ("recorder", "sip", "certs"), ("recorder", "trust"))]
    assert known == [True, False, True]


def test_latency_is_read_as_number_or_table() -> None:
    """A bare number is for `pki csr`."""
    assert read_latency("3") == {"pki csr": 3.0}
    assert read_latency("pki csr=3,webadmin enable=0.5") == {"pki csr": 3.0, "webadmin enable": 0.5}


def test_faults_are_read_one_or_many() -> None:
    """`--fault` takes an object or a list."""
    assert [fault.kind for fault in read_faults('[{"kind": "hang"}, {"kind": "slow", "seconds": 2}]')] == [
        "hang",
        "slow",
    ]
    assert read_faults('{"kind": "hang"}')[0].times == 1
