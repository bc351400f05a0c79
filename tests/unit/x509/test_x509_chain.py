from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509

from tests.ca import NOW, SERVER, intermediate, make_ca, root
from workflows.errors import CertificateError, ChainIncomplete
from workflows.x509.chain import is_self_signed, issued, order_chain, verify_chain

YEAR = dt.timedelta(days=365)


def test_chain_is_ordered_leaf_first_root_last(ca, csr):
    """Whatever else lies in the pool."""
    leaf = ca.sign(csr)
    stranger = make_ca(name="Stranger")
    pool = [ca.root.certificate, *stranger.issuers, leaf, ca.issuing.certificate]
    assert order_chain(leaf, pool) == (leaf, ca.issuing.certificate, ca.root.certificate)


def test_self_signed_certificate_is_its_own_chain(ca):
    """Nothing issued it but itself."""
    assert order_chain(ca.root.certificate, []) == (ca.root.certificate,)


@pytest.mark.parametrize(("kept", "missing"), [(0, "CN=Test Root CA"), (1, "CN=Test Issuing CA")])
def test_missing_issuer_is_named(kept, missing, ca, csr):
    """The error says whose certificate to add."""
    with pytest.raises(ChainIncomplete) as caught:
        order_chain(ca.sign(csr), [ca.issuers[kept]])
    assert caught.value.data["missing"] == missing
    assert missing in caught.value.remedy()


def test_issuer_of_the_right_name_and_another_key_is_not_taken(ca, csr):
    """Names link, signatures decide."""
    twin = intermediate(ca.root, "Test Issuing CA")
    leaf = ca.sign(csr)
    with pytest.raises(ChainIncomplete, match="did not sign it"):
        order_chain(leaf, [twin.certificate, ca.root.certificate])
    pool = [twin.certificate, *ca.issuers]
    assert order_chain(leaf, pool) == (leaf, *ca.issuers)


def test_cross_signed_issuer_takes_the_shorter_way(ca, csr):
    """The root itself beats the same root cross-signed by an older one."""
    older = root("Older Root CA")
    crossed = intermediate(older, "Test Root CA", key=ca.root.key)
    leaf = ca.sign(csr)
    assert order_chain(leaf, [crossed.certificate, older.certificate, *ca.issuers]) == (leaf, *ca.issuers)


def test_cross_signed_way_is_taken_when_it_is_the_only_one(ca, csr):
    """Servers whose peers know only the older root."""
    older = root("Older Root CA")
    crossed = intermediate(older, "Test Root CA", key=ca.root.key)
    leaf = ca.sign(csr)
    pool = [crossed.certificate, older.certificate, ca.issuing.certificate]
    assert order_chain(leaf, pool) == (leaf, ca.issuing.certificate, crossed.certificate, older.certificate)


def test_renewed_issuer_is_preferred_to_the_one_that_ends_first(ca, csr):
    """Of two certificates for one CA key, the one that outlives the leaf."""
    ending = intermediate(ca.root, "Test Issuing CA", key=ca.issuing.key, not_after=NOW + dt.timedelta(days=5))
    leaf = ca.sign(csr)
    assert order_chain(leaf, [ending.certificate, *ca.issuers]) == (leaf, *ca.issuers)
    assert order_chain(leaf, [ending.certificate, ca.root.certificate])[1] == ending.certificate


def test_issuers_that_only_name_each_other_end_the_search(csr):
    """Two CAs that cross-sign each other, and no root."""
    one, two = root("One"), root("Two")
    one_by_two = intermediate(two, "One", key=one.key)
    two_by_one = intermediate(one, "Two", key=two.key)
    leaf = intermediate(one_by_two, "Below").certificate
    with pytest.raises(ChainIncomplete, match="none is a root"):
        order_chain(leaf, [one_by_two.certificate, two_by_one.certificate])


def test_many_issuers_of_one_name_do_not_explode():
    """Six CAs of one name that all cross-sign each other: each pair is looked at once, and the search ends."""
    authorities = [root("Same") for _ in range(6)]
    crossed = [intermediate(one, "Same", key=two.key) for one in authorities for two in authorities if one is not two]
    leaf = intermediate(crossed[0], "Below").certificate
    with pytest.raises(ChainIncomplete, match="none is a root"):
        order_chain(leaf, [each.certificate for each in crossed])


def test_issued_asks_for_name_and_signature(ca, csr):
    """One without the other is no issuer."""
    assert (issued(ca.issuing.certificate, ca.sign(csr)), issued(ca.root.certificate, ca.sign(csr))) == (True, False)
    assert (is_self_signed(ca.root.certificate), is_self_signed(ca.issuing.certificate)) == (True, False)


def verify(ca, leaf, **changes):
    settings = {"pool": ca.issuers, "anchors": [ca.root.certificate], "now": NOW}
    return verify_chain(leaf, **(settings | changes))


@pytest.mark.parametrize("usages", [set(), {"server"}, {"client"}, {"server", "client"}])
def test_good_chain_holds_for_every_usage(usages, ca, csr):
    """The verified chain comes back, leaf first."""
    leaf = ca.sign(csr)
    assert verify(ca, leaf, usages=frozenset(usages)) == (leaf, ca.issuing.certificate, ca.root.certificate)


@pytest.mark.parametrize("name", ["cms.example.com", "CMS1.example.com", "192.0.2.10"])
def test_names_among_the_sans_hold(name, ca, csr):
    """DNS names in any case, and addresses."""
    assert len(verify(ca, ca.sign(csr), peer_name=name)) == 3


def test_cn_is_no_name(ca, csr):
    """A leaf without SANs is refused for a name that its CN has (RFC 9525)."""
    leaf = ca.sign(csr, names=())
    with pytest.raises(CertificateError):
        verify(ca, leaf, peer_name="cms.example.com")
    assert len(verify(ca, leaf)) == 3


def test_cn_does_not_stand_in_for_a_missing_san(ca, csr):
    """Nor when other SANs are there."""
    with pytest.raises(CertificateError):
        verify(ca, ca.sign(csr, names=[x509.DNSName("b.example.com")]), peer_name="cms.example.com")


def test_missing_usage_is_named(ca, csr):
    """The sentence says which usage the certificate lacks."""
    with pytest.raises(CertificateError, match="lacks clientAuth"):
        verify(ca, ca.sign(csr, usages=(SERVER,)), usages=frozenset({"server", "client"}))


def test_absent_extended_key_usage_allows_all(ca, csr):
    """RFC 5280 section 4.2.1.12, and the server reads it so too."""
    assert len(verify(ca, ca.sign(csr, usages=None), usages=frozenset({"server", "client"}))) == 3


@pytest.mark.parametrize("moment", [NOW - YEAR, NOW + YEAR])
def test_time_outside_validity_is_refused(moment, ca, csr):
    """Validity is judged at the time given, not at the test's own."""
    with pytest.raises(CertificateError):
        verify(ca, ca.sign(csr), now=moment)


def test_root_that_is_not_trusted_is_refused(ca, csr):
    """Only *anchors* are trusted, never what the pool holds."""
    with pytest.raises(CertificateError):
        verify(ca, ca.sign(csr), anchors=[make_ca(name="Other").root.certificate])


def test_no_anchor_is_an_incomplete_chain(ca, csr):
    """Nothing can be trusted by nobody."""
    with pytest.raises(ChainIncomplete):
        verify(ca, ca.sign(csr), anchors=[])


def test_depth_counts_the_intermediates(ca, csr):
    """One intermediate needs a depth of one."""
    leaf = ca.sign(csr)
    assert len(verify(ca, leaf, maximum_depth=1)) == 3
    with pytest.raises(CertificateError):
        verify(ca, leaf, maximum_depth=0)


def test_wildcard_over_a_top_level_domain_is_refused(ca, csr):
    """*.com would be a name of everybody."""
    with pytest.raises(CertificateError, match="whole top level domain"):
        verify(ca, ca.sign(csr, names=[x509.DNSName("*.com")]))
