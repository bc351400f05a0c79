"""Laws of workflows.x509 that hold for all inputs. Keys and certificates are made once; only their use varies."""

from __future__ import annotations

import base64

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ca import ENCODINGS, intermediate, make_ca, make_csr, pem, root
from workflows.errors import CertificateError
from workflows.x509.bundle import ca_bundle, full_chain, render, split, trust_with, trust_without
from workflows.x509.chain import order_chain
from workflows.x509.names import SubjectAltNames, dns_fault
from workflows.x509.pile import Pile, read_pile

ONE, TWO = make_ca(name="One"), make_ca(name="Two")
CROSSED = intermediate(TWO.root, "One Root CA", key=ONE.root.key).certificate
RENEWED = intermediate(ONE.root, "One Issuing CA", key=ONE.issuing.key).certificate
LEAF = ONE.sign(make_csr("cms.example.com", [x509.DNSName("cms.example.com")]))
POOL = (*ONE.issuers, *TWO.issuers, CROSSED, RENEWED, LEAF)
OTHERS = tuple(root(f"Root {number}").certificate for number in range(4))

quick = settings(deadline=None, max_examples=60)  # other work on the machine must not fail a law
certificates = st.lists(st.sampled_from((*POOL, *OTHERS)), unique=True, min_size=1)


@quick
@given(pool=st.permutations(POOL), copies=st.lists(st.sampled_from(POOL)))
def test_order_chain_ignores_order_and_copies(pool, copies):
    """Neither the order of the pool nor what stands in it twice changes the chain."""
    assert order_chain(LEAF, [*copies, *pool]) == order_chain(LEAF, POOL)


@quick
@given(chain=certificates)
def test_split_undoes_full_chain(chain):
    """Whatever is written is read back, in order."""
    assert split(full_chain(chain[0], chain)) == tuple(chain)


@quick
@given(chain=certificates)
def test_rendering_ends_with_exactly_one_line_end(chain):
    """Full chain, bundle and trust store end alike (row S8)."""
    rendered = [full_chain(chain[0], chain), trust_with(b"", chain)]
    rendered += [ca_bundle(chain)] if len(chain) > 1 else []
    assert [data == data.rstrip() + b"\n" and b"\r" not in data for data in rendered] == [True] * len(rendered)


@quick
@given(old=certificates, new=certificates)
def test_trust_with_is_idempotent_and_loses_nothing(old, new):
    """A second time changes nothing; the old stay in front."""
    once = trust_with(pem(old), new)
    assert trust_with(once, new) == once
    assert split(once)[: len(old)] == tuple(old)
    assert set(split(once)) == {*old, *new}


@quick
@given(old=certificates, new=certificates)
def test_trust_without_takes_back_what_trust_with_added(old, new):
    """Unless it was there before."""
    added = [certificate for certificate in new if certificate not in old]
    assert trust_without(trust_with(render(old), added), added) == render(old)


@quick
@given(pile=certificates, encoding=st.sampled_from(sorted(ENCODINGS)))
def test_pile_finds_the_same_in_every_encoding(pile, encoding):
    """An encoding changes neither what is found nor that nothing is amiss."""
    found = read_pile({"f": ENCODINGS[encoding](pile)})
    assert ({each.certificate for each in found.certificates}, found.problems) == (set(pile), ())


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=400))
def test_any_bytes_give_a_pile(data):
    """Never another error than ours, and always either something found or a problem."""
    assert is_pile(data)


@settings(deadline=None, max_examples=200)
@given(
    label=st.sampled_from(["CERTIFICATE", "CERTIFICATE REQUEST", "PKCS7", "PRIVATE KEY", "EC PARAMETERS"]),
    body=st.binary(max_size=200),
    around=st.binary(max_size=20),
)
def test_any_body_in_a_pem_block_gives_a_pile(label, body, around):
    """Well-formed base64 of nonsense, with nonsense around."""
    text = base64.encodebytes(body)
    begin, end = (f"-----{word} {label}-----\n".encode() for word in ("BEGIN", "END"))
    assert is_pile(around + begin + text + end + around)


@settings(deadline=None, max_examples=300)
@given(position=st.integers(min_value=0), value=st.integers(min_value=0, max_value=255), data=st.data())
def test_any_damage_to_a_good_file_gives_a_pile(position, value, data):
    """One byte changed anywhere, in any encoding."""
    encoding = data.draw(st.sampled_from(sorted(ENCODINGS)))
    good = bytearray(ENCODINGS[encoding]((LEAF, *ONE.issuers)))
    good[position % len(good)] = value
    assert is_pile(bytes(good))


def is_pile(data: bytes) -> bool:
    try:
        return isinstance(read_pile({"f": data}), Pile)
    except CertificateError:
        return True


@quick
@given(text=st.text(max_size=300))
def test_any_text_is_a_name_or_has_a_reason(text):
    """The DNS rules never raise, and what passes is ASCII of at most 253 characters."""
    assert dns_fault(text) != "" or (text.isascii() and 0 < len(text) <= 253)


@quick
@given(names=st.lists(st.text(max_size=20)))
def test_normalizing_twice_changes_nothing(names):
    """And a list never lacks its own names."""
    once = SubjectAltNames.parse(names).normalized()
    assert (once.normalized(), once.without(once)) == (once, SubjectAltNames())
