from __future__ import annotations

import pytest

from workflows.x509.names import Kind, Subject, SubjectAltNames, check_names, dns_fault


def faults(subject: Subject, sans: SubjectAltNames | None = None, kind: Kind = "service") -> list[str]:
    found = check_names(subject, SubjectAltNames(dns=(subject.CN,)) if sans is None else sans, kind=kind)
    return [f"{fault.where}: {fault.what}" for fault in found.faults]


@pytest.mark.parametrize("common_name", ["cms.example.com", "*.example.com", "xn--bcher-kva.example.com", "a-1.b2"])
def test_fqdn_and_wildcard_are_good_for_a_service(common_name):
    """Row S1: the CN of a service is an FQDN or a wildcard."""
    assert faults(Subject(CN=common_name)) == []


@pytest.mark.parametrize(
    ("common_name", "reason"),
    [
        ("", "there is no CN"),
        ("cms", "is not fully qualified"),
        ("192.0.2.1", "is an IP address"),
        ("cms.example.1", "ends in a number"),
        ("cms..example.com", "has an empty label"),
        ("cms.example.com.", "has an empty label"),
        ("cms_1.example.com", "only letters, digits and hyphens"),
        ("-cms.example.com", "only letters, digits and hyphens"),
        ("cms.*.example.com", "not the whole leftmost label"),
        ("c*.example.com", "not the whole leftmost label"),
        ("*.com", "whole top level domain"),
        ("*", "whole top level domain"),
        ("bücher.example.com", "A-label form, xn--bcher-kva.example.com"),
        ("xn--a.example.com", "no A-label"),
        ("xn--n3h.example.com", "no A-label"),
        ("xn--abc-.example.com", "only letters, digits and hyphens"),
        ("ab--cd.example.com", "no A-label"),
        ("cms example.com", "only letters, digits and hyphens"),
        ("a" * 64 + ".example.com", "label of 64 characters"),
        (".*.tptac9.com", "has an empty label"),
    ],
)
def test_bad_service_name_is_a_fault_with_its_reason(common_name, reason):
    """Each broken DNS rule is named."""
    found = check_names(Subject(CN=common_name), SubjectAltNames(), kind="service").faults
    assert [fault.where for fault in found if reason in fault.what and fault.remedy] == ["CN"]


def test_name_of_253_characters_is_the_longest():
    """DNS allows 253 characters, RFC 1035 section 3.1 less the root's dot."""
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert (len(longest), dns_fault(longest)) == (253, "")
    assert dns_fault(longest + "d") == "has 254 characters; DNS allows 253"


def test_san_list_must_hold_the_cn_of_a_service():
    """Row S1: "if given, the list must hold the CN"."""
    sans = SubjectAltNames(dns=("other.example.com",))
    assert faults(Subject(CN="cms.example.com"), sans) == [
        "subject_alt_names: the list does not hold the CN cms.example.com"
    ]


def test_cn_in_the_san_list_is_found_without_regard_to_case():
    """DNS names compare case-folded."""
    assert faults(Subject(CN="CMS.example.com"), SubjectAltNames(dns=("cms.EXAMPLE.com",))) == []


def test_service_without_san_list_is_a_warning():
    """Row S3 writes such requests itself, though modern clients refuse the result."""
    found = check_names(Subject(CN="cms.example.com"), SubjectAltNames(), kind="service")
    assert (found.ok, [warning.where for warning in found.warnings]) == (True, ["subject_alt_names"])


def test_xmpp_needs_a_san_list():
    """Row S1: XMPP clients refuse a certificate without SANs."""
    found = check_names(Subject(CN="xmpp.example.com"), SubjectAltNames(), kind="xmpp")
    assert [fault.where for fault in found.faults] == ["subject_alt_names"]


def test_database_server_san_without_cn_is_a_warning_only():
    """The base document itself writes its database server request so."""
    sans = SubjectAltNames(dns=("cmscore2.example.com", "cmscore3.example.com"))
    found = check_names(Subject(CN="cmscore1.example.com"), sans, kind="database_server")
    assert (found.ok, len(found.warnings)) == (True, 1)


@pytest.mark.parametrize(("common_name", "count"), [("postgres", 0), ("Postgres", 1), ("cms.example.com", 1)])
def test_database_client_is_exactly_postgres(common_name, count):
    """Row S1: the client CN is exactly `postgres`."""
    assert len(faults(Subject(CN=common_name), SubjectAltNames(), "database_client")) == count


def test_ca_name_is_free_text():
    """Row S1: the CN of the built-in CA is free text."""
    assert faults(Subject(CN="Our Database CA 2026"), SubjectAltNames(), "ca") == []


@pytest.mark.parametrize(
    ("country", "remedy"), [("kr", "Write KR."), ("UK", "Use two capital letters"), ("KOR", "Use two capital letters")]
)
def test_country_must_be_iso_3166(country, remedy):
    """Row S1: C is two letters of ISO 3166."""
    found = check_names(Subject(CN="a.example.com", C=country), SubjectAltNames(dns=("a.example.com",)), kind="service")
    assert [(fault.where, fault.remedy.startswith(remedy)) for fault in found.faults] == [("C", True)]


def test_all_faults_come_at_once():
    """A person mends everything in one go."""
    subject = Subject(CN="cms", C="XX", O='a"b', OU="x" * 65, emailAddress="nobody")
    sans = SubjectAltNames(dns=("a_b",), ip=("300.1.1.1",), email=("x@y_z",))
    where = [fault.where for fault in check_names(subject, sans, kind="service").faults]
    assert sorted(where) == ["C", "CN", "O", "OU", "emailAddress", *["subject_alt_names"] * 4]


@pytest.mark.parametrize(
    "address", ["a@", "@example.com", "a.example.com", ".a@example.com", "a..b@example.com", "a b@c.d"]
)
def test_bad_email_address_is_a_fault(address):
    """An address is local part, @, DNS name."""
    sans = SubjectAltNames(dns=("a.example.com",), email=(address,))
    assert len(faults(Subject(CN="a.example.com"), sans)) == 1


@pytest.mark.parametrize("value", ["two\nlines", "tab\there", " space", "right\u202eleft"])
def test_value_that_a_command_line_cannot_carry_is_a_fault(value):
    """Nothing invisible gets into a line sent to a server."""
    assert len(faults(Subject(CN="a.example.com", O=value))) == 1


def test_plain_list_is_sorted_by_what_each_name_looks_like():
    """`subjectAltName:` takes DNS names, addresses and e-mail addresses in one list."""
    names = SubjectAltNames.parse(["a.example.com", " 192.0.2.1", "2001:DB8::1", "ops@example.com"])
    expected = SubjectAltNames(dns=("a.example.com",), ip=("192.0.2.1", "2001:DB8::1"), email=("ops@example.com",))
    assert names == expected


def test_names_compare_folded():
    """DNS by case, IP by value, e-mail by the case of its domain only."""
    wanted = SubjectAltNames(dns=("A.example.com",), ip=("2001:db8:0::1",), email=("Ops@EXAMPLE.com",))
    there = SubjectAltNames(dns=("a.EXAMPLE.com",), ip=("2001:DB8::1",), email=("Ops@example.com",))
    assert wanted.without(there) == SubjectAltNames()
    assert wanted.without(SubjectAltNames(email=("ops@example.com",))).email == ("Ops@example.com",)


def test_subject_reads_in_the_order_of_pki_csr():
    """Parts that are not there are left out."""
    assert str(Subject(C="KR", CN="a.example.com", O="Ours")) == "CN=a.example.com, O=Ours, C=KR"
