"""Keys, chains and full chain files."""

import asyncio
from datetime import UTC, datetime, timedelta

from simulator import inspection, pki
from simulator.layout import Authorities, wish

NOW = datetime(2026, 11, 23, tzinfo=UTC)
POOL = pki.KeyPool.of_size(10)


def _take(count: int) -> list[int]:
    async def work() -> list[int]:
        return [(await POOL.take()).public_key().public_numbers().n for _ in range(count)]

    return asyncio.run(work())


def test_pool_keys_are_different_until_it_begins_again() -> None:
    """Ten keys are ten; the eleventh is the first again."""
    moduli = _take(11)
    assert (len(set(moduli[:10])), moduli[10] == moduli[0]) == (10, True)
    assert {n.bit_length() for n in moduli} == {2048}


def _chain() -> tuple[Authorities, bytes, bytes, bytes]:
    async def work() -> tuple[Authorities, bytes, bytes, bytes]:
        authorities = await Authorities.make(POOL, NOW)
        key = await POOL.take()
        leaf = authorities.issuing.issue(
            public_key=key.public_key(),
            wish=wish("a.example.com", "a.example.com"),
            not_before=NOW,
            not_after=NOW + timedelta(days=90),
        )
        certificates = (leaf, authorities.issuing.certificate, authorities.root.certificate)
        first, second, third = (pki.to_pem(certificate) for certificate in certificates)
        return authorities, first, second, third

    return asyncio.run(work())


def test_full_chain_is_leaf_issuers_root_in_order() -> None:
    """Missing, swapped or leaf-only chains are not full."""
    _, leaf, issuing, root = _chain()
    piles = (leaf + issuing + root, leaf + root, leaf + root + issuing, leaf, issuing + root + leaf, b"")
    assert [pki.ordered_full_chain(pile) for pile in piles] == [True, False, False, False, False, False]


def test_chain_problem_names_expiry_and_missing_issuer() -> None:
    """The words are OpenSSL's."""
    _, leaf, issuing, root = _chain()
    entity = pki.load_certificates(leaf)[0]
    pool = pki.load_certificates(issuing + root)
    assert pki.chain_problem(entity, pool, NOW + timedelta(days=1)) is None
    assert pki.chain_problem(entity, pool, NOW + timedelta(days=91)) == "certificate has expired"
    assert pki.chain_problem(entity, pool[1:], NOW) == "unable to get local issuer certificate"


def test_inspection_tells_what_a_file_is_and_keeps_keys_secret() -> None:
    """Certificate bundles are told element by element; of a key only its kind and size."""
    authorities, leaf, issuing, root = _chain()
    assert inspection.describe(leaf + issuing + root, {}).count("Certificate:\n    Data:") == 3
    assert inspection.describe(pki.key_to_pem(authorities.root.key), {}) == (
        "File contains a PEM encoded private key\n2048 bit RSA private key\n"
    )
    assert inspection.describe(b"hello", {}) == "File contains data of an unknown type\n"
