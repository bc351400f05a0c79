from __future__ import annotations

import datetime as dt
import subprocess
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.ca import DEFECTS, NOW, Authority, Delivery, intermediate, make_csr, name_of, pem, root, rsa_key, with_sha1
from workflows.x509.acceptance import check_signed
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.request import read_request

DAY = dt.timedelta(days=1)


@pytest.fixture
def check(ca, csr, wish):
    """Check a delivery for the request against the wish, with changes."""

    def run(delivery: Delivery, **changes):
        settings = {
            "request": read_request(csr),
            "wish": wish,
            "pool": delivery.pool,
            "anchors": (ca.root.certificate,),
            "now": NOW,
        }
        return check_signed(delivery.certificate, **(settings | changes))

    return run


def test_good_certificate_has_no_findings(check, ca, csr):
    """And the chain comes with it, leaf first."""
    good = ca.deliver(csr)
    result = check(good)
    assert (result.faults, result.warnings, result.chain) == ((), (), good.everything)


# What each defect must be called: where, and the words that name it.
EXPECTED = {
    "wrong_key": [("key", "belongs to another key")],
    "missing_name": [("subject_alt_names", "cms1.example.com is missing")],
    "common_name_only": [("subject_alt_names", "cms.example.com, cms1.example.com, 192.0.2.10 is missing")],
    "other_common_name": [("CN", "CN is 'other.example.net'; asked for was 'cms.example.com'")],
    "without_client_auth": [("usage", "lacks clientAuth (it allows server)")],
    "without_server_auth": [("usage", "lacks serverAuth (it allows client)")],
    "expired": [("validity", "it expired on 2026-10-31 12:00 UTC")],
    "not_yet_valid": [("validity", "it is not valid before 2026-11-01 13:00 UTC")],
    "ends_soon": [("validity", "it ends on 2026-11-04, in 3 days; asked are 30")],
    "sha1_signature": [("signature", "it is signed with SHA1")],
    "is_a_ca": [("CA", "this is a CA certificate")],
    "missing_intermediate": [("chain", "the issuer of CN=cms.example.com is missing: CN=Test Issuing CA")],
    "missing_root": [],  # the fleet knows the root itself
    "other_ca": [("chain", "ends in CN=Other Root CA, which is not a root that this fleet trusts")],
    "bad_signature": [("chain", "the certificate of that name here did not sign it")],
    "expired_intermediate": [("chain", "the issuer CN=Test Issuing CA expired on 2026-10-25")],
    "issuer_not_yet_valid": [("chain", "the issuer CN=Test Issuing CA is not valid before 2026-11-02")],
    "path_too_long": [("chain", "no chain to a trusted root holds at 2026-11-01 12:00 UTC")],
    "without_tls_key_usage": [("usage", "neither digitalSignature nor keyEncipherment")],
    "sha1_issuer": [
        ("chain", "the issuer CN=Test Issuing CA is signed with SHA1"),
        ("chain", "ends in CN=Test RSA Root CA, which is not a root"),
    ],
}


def test_every_defect_has_its_sentence():
    """A defect added to tests/ca.py must be expected here."""
    assert sorted(EXPECTED) == sorted(DEFECTS)


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_named_once_and_precisely(defect, check, ca, csr):
    """Exactly the findings that belong to it, each with a remedy."""
    faults = check(DEFECTS[defect](ca, csr)).faults
    expected = EXPECTED[defect]
    assert [fault.where for fault in faults] == [where for where, _ in expected]
    assert [words in fault.what for fault, (_, words) in zip(faults, expected, strict=True)] == [True] * len(faults)
    assert [bool(fault.remedy) for fault in faults] == [True] * len(faults)


def test_all_faults_come_at_once(check, ca, csr):
    """One delivery, everything wrong with it."""
    settings = {"usages": (ExtendedKeyUsageOID.CODE_SIGNING,), "is_ca": True}
    bad = ca.sign(make_csr("x.example.net"), not_before=NOW - 9 * DAY, not_after=NOW - DAY, **settings)
    faults = check(Delivery(certificate=bad, pool=())).faults
    assert [fault.where for fault in faults] == [
        *("key", "CN", "subject_alt_names", "usage", "usage", "CA", "validity", "chain"),
    ]


def test_old_certificate_again_is_a_fault(check, ca, csr):
    """The CA's mail of last year, once more."""
    good = ca.deliver(csr)
    assert [fault.where for fault in check(good, current=good.certificate).faults] == ["serial"]
    assert check(good, current=ca.sign(csr)).faults == ()


def test_serial_used_twice_is_a_fault(check, ca, csr):
    """Another certificate under the issuer and serial of the one in use."""
    current = ca.sign(csr, serial=77)
    faults = check(ca.deliver(csr, serial=77, not_after=NOW + 99 * DAY), current=current).faults
    assert [fault.where for fault in faults] == ["serial"]


@pytest.mark.parametrize(("begins_in", "count"), [(dt.timedelta(minutes=4), 0), (dt.timedelta(minutes=6), 1)])
def test_clock_skew_of_five_minutes_is_forgiven(begins_in, count, check, ca, csr):
    """A CA's clock may be a little ahead of ours."""
    assert len(check(ca.deliver(csr, not_before=NOW + begins_in)).faults) == count


def test_short_rsa_key_is_a_fault(check, ca, wish):
    """Even when request and certificate agree on it."""
    weak = make_csr("cms.example.com", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    result = check(ca.deliver(weak), request=read_request(weak), wish=replace(wish, sans=SubjectAltNames()), now=NOW)
    assert [fault.what for fault in result.faults] == ["the RSA key has 1024 bits; fewer than 2048 are broken"]


def test_absent_usage_is_accepted(check, ca, csr):
    """No extended key usage allows all."""
    assert check(ca.deliver(csr, usages=None)).faults == ()


def test_private_key_in_the_pile_is_a_fault(check, ca, csr):
    """Whoever sent it along has shown it to others."""
    faults = check(ca.deliver(csr), private_keys=("mail.pem",)).faults
    assert [fault.what for fault in faults] == ["there is a private key in mail.pem; it was not kept"]


def test_names_compare_without_regard_to_case(check, ca, csr, wish):
    """What the wish writes in capitals is the same name."""
    loud = replace(wish, subject=Subject(CN="CMS.EXAMPLE.COM"), sans=SubjectAltNames(dns=("CMS1.example.COM",)))
    assert check(ca.deliver(csr), wish=loud).faults == ()


def test_address_written_as_dns_name_does_not_count(check, ca, csr, wish):
    """An IP address must be there as an IP address."""
    written = [x509.DNSName(name) for name in ("cms.example.com", "cms1.example.com", "192.0.2.10")]
    faults = check(ca.deliver(csr, names=written)).faults
    assert [fault.what for fault in faults] == ["192.0.2.10 is missing from the subject alternative names"]


def test_dropped_parts_of_the_subject_are_warnings(check, ca, csr, wish):
    """Public CAs drop OU and e-mail address; nothing depends on them."""
    result = check(ca.deliver(csr), wish=replace(wish, subject=Subject(CN="cms.example.com", OU="Video")))
    assert (result.faults, [warning.where for warning in result.warnings]) == ((), ["OU"])


def test_added_names_are_a_warning(check, ca, csr, wish):
    """Public CAs add www. or the bare domain."""
    result = check(ca.deliver(csr), wish=replace(wish, sans=SubjectAltNames(dns=("cms.example.com",))))
    assert [warning.what for warning in result.warnings] == ["the CA added cms1.example.com, 192.0.2.10"]


def test_wish_without_names_is_answered_with_a_warning(check, ca, wish):
    """Row S3 allows a CN alone; clients that follow RFC 9525 refuse it."""
    alone = make_csr("cms.example.com")
    result = check(ca.deliver(alone), request=read_request(alone), wish=replace(wish, sans=SubjectAltNames()))
    assert (result.faults, [warning.where for warning in result.warnings]) == ((), ["subject_alt_names"])


def test_unpinned_root_is_a_warning_with_its_fingerprint(check, ca, csr):
    """People compare it, since the fleet names no root."""
    result = check(ca.deliver(csr), anchors=())
    assert result.faults == ()
    assert [ca.root.certificate.fingerprint(hashes.SHA256()).hex() in warning.what for warning in result.warnings] == [
        True
    ]


def test_issuer_that_ends_first_is_a_warning(check, ca, csr):
    """The chain will break before the certificate does."""
    short = intermediate(ca.root, "Test Issuing CA", key=ca.issuing.key, not_after=NOW + 60 * DAY)
    result = check(Delivery(certificate=ca.sign(csr), pool=(short.certificate,)))
    assert (result.faults, [warning.where for warning in result.warnings]) == ((), ["chain"])


@pytest.mark.parametrize(
    ("begins", "days", "count"),
    [
        (dt.datetime(2026, 10, 1, tzinfo=dt.UTC), 200, 0),
        (dt.datetime(2026, 10, 1, tzinfo=dt.UTC), 201, 1),
        (dt.datetime(2027, 3, 15, tzinfo=dt.UTC), 100, 0),
        (dt.datetime(2027, 3, 15, tzinfo=dt.UTC), 101, 1),
        (dt.datetime(2029, 3, 15, tzinfo=dt.UTC), 48, 1),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 390, 0),
    ],
)
def test_public_lifetime_over_the_limit_of_its_date_is_a_warning(begins, days, count, check, ca, csr, wish):
    """SC-081v3: 200 days from 2026-03-15, 100 from 2027, 47 from 2029; both ends count."""
    end = begins + days * DAY - dt.timedelta(seconds=1)
    public = replace(wish, public_issuer=True)
    result = check(ca.deliver(csr, not_before=begins, not_after=end), wish=public, now=max(begins, NOW) + DAY)
    assert (result.faults, len(result.warnings)) == ((), count)


def test_private_lifetime_has_no_limit(check, ca, csr):
    """A private CA may sign for years."""
    assert check(ca.deliver(csr, not_after=NOW + 800 * DAY)).warnings == ()


def test_subject_of_another_case_is_the_same(check, ca, csr):
    """The CN compares as a DNS name."""
    assert check(ca.deliver(csr, subject=name_of("CMS.example.com"))).faults == ()


@pytest.mark.needs_openssl
@pytest.mark.parametrize(
    "defect",
    [
        "good",
        "expired",
        "missing_intermediate",
        "other_ca",
        "bad_signature",
        "expired_intermediate",
        "path_too_long",
        "issuer_not_yet_valid",
    ],
)
def test_openssl_agrees_about_the_chain(defect, check, ca, csr, tmp_path):
    """An independent verifier gives the same verdict on what concerns the chain (faults.md section 6.1)."""
    delivery = ca.deliver(csr) if defect == "good" else DEFECTS[defect](ca, csr)
    files = {"leaf.pem": [delivery.certificate], "pool.pem": delivery.pool, "root.pem": [ca.root.certificate]}
    for name, certificates in files.items():
        (tmp_path / name).write_bytes(pem(certificates))
    command = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), "-purpose", "sslserver", "-x509_strict"]
    command += ["-no-CApath", "-no-CAstore", "-CAfile", "root.pem", "-untrusted", "pool.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == check(delivery).ok


def test_certificate_with_a_damaged_extension_is_one_fault(check, ca, csr):
    """An empty extended key usage cannot be read; that is said, and nothing is raised."""
    faults = check(ca.deliver(csr, usages=())).faults
    assert [(fault.where, "the certificate is damaged" in fault.what) for fault in faults] == [("certificate", True)]


def test_certificate_of_a_small_ca_is_accepted(check, ca, csr):
    """No basic constraints, no key usage, no subject key identifier: a private CA may leave them out."""
    assert check(ca.deliver(csr, bare=True)).faults == ()


def test_root_that_signed_itself_with_sha1_is_accepted(check, ca, csr):
    """A root is trusted for its key; many old ones are signed so."""
    old = with_sha1(root("Old Root CA", key=rsa_key()).certificate, rsa_key())
    issuing = intermediate(Authority(certificate=old, key=rsa_key()), "Test Issuing CA", key=ca.issuing.key)
    delivery = Delivery(certificate=ca.sign(csr), pool=(issuing.certificate, old))
    assert check(delivery, anchors=(old,)).faults == ()


def test_unknown_signature_algorithm_is_named(check, ca, csr):
    """Its identifier is shown, for nobody knows its name."""
    issuing = intermediate(ca.root, "Test RSA Issuing CA", key=rsa_key())
    good = replace(ca, issuing=issuing).sign(csr)
    sha256, md2 = (bytes.fromhex(f"06092a864886f70d0101{last:02x}") for last in (11, 2))
    odd = x509.load_der_x509_certificate(good.public_bytes(serialization.Encoding.DER).replace(sha256, md2))
    faults = check(Delivery(certificate=odd, pool=(issuing.certificate,))).faults
    assert "it is signed with an unknown algorithm (1.2.840.113549.1.1.2)" in [fault.what for fault in faults]


@pytest.mark.parametrize(("left", "count"), [(30 * DAY, 0), (30 * DAY - dt.timedelta(seconds=1), 1)])
def test_minimum_of_days_is_enough_to_the_second(left, count, check, ca, csr):
    """Exactly the minimum is accepted."""
    assert len(check(ca.deliver(csr, not_after=NOW + left)).faults) == count
