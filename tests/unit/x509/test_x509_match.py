from __future__ import annotations

from cryptography import x509

from tests.ca import make_csr
from workflows.x509.match import match_by_key
from workflows.x509.pile import Found
from workflows.x509.request import read_request


def found(*certificates: x509.Certificate) -> list[Found]:
    return [Found(certificate=each, source=f"{number}.pem") for number, each in enumerate(certificates)]


def test_certificates_are_matched_by_key_whatever_their_order(ca):
    """Names and file names say nothing."""
    requests = {name: make_csr("same.example.com") for name in ("a", "b")}
    leaves = {name: ca.sign(csr) for name, csr in requests.items()}
    keys = {name: read_request(csr).spki_sha256 for name, csr in requests.items()}
    matched = match_by_key(found(leaves["b"], *ca.issuers, leaves["a"]), keys)
    assert {name: item.certificate for name, item in matched.by_id.items()} == leaves
    assert (matched.issuers, matched.unmatched, matched.missing, matched.problems) == (ca.issuers, (), (), ())


def test_request_without_certificate_is_missing_and_no_problem(ca, csr):
    """More files may come later."""
    matched = match_by_key(found(*ca.issuers), {"a": read_request(csr).spki_sha256})
    assert (matched.missing, matched.problems) == (("a",), ())


def test_certificate_for_another_key_is_a_problem(ca, csr):
    """It is named with its file."""
    stranger = ca.sign(make_csr("cms.example.com"))
    matched = match_by_key(found(stranger), {"a": read_request(csr).spki_sha256})
    assert [item.certificate for item in matched.unmatched] == [stranger]
    assert [problem.where for problem in matched.problems] == ["0.pem"]


def test_two_certificates_for_one_key_are_ambiguous(ca, csr):
    """People say which of them was meant; nothing is chosen."""
    matched = match_by_key(found(ca.sign(csr), ca.sign(csr)), {"a": read_request(csr).spki_sha256})
    assert (dict(matched.by_id), list(matched.ambiguous), matched.missing) == ({}, ["a"], ())
    assert [problem.where for problem in matched.problems] == ["a"]


def test_same_certificate_twice_is_not_ambiguous(ca, csr):
    """Copies are one."""
    leaf = ca.sign(csr)
    matched = match_by_key(found(leaf, leaf), {"a": read_request(csr).spki_sha256})
    assert matched.by_id["a"].certificate == leaf


def test_one_certificate_answers_every_request_of_its_key(ca, csr):
    """A shared certificate."""
    key = read_request(csr).spki_sha256
    assert list(match_by_key(found(ca.sign(csr)), {"a": key, "b": key}).by_id) == ["a", "b"]
