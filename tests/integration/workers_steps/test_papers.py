"""Certificates come in: each is found by its key and checked, and nothing is taken until all that came is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from paper_runs import NOW, RUN, a_run, approve, csr_of, the_fleet

from tests import ca
from workflows import papers
from workflows.errors import CertificateError, GateError
from workflows.journal import Journal, gates, stock
from workflows.journal.events import Kind
from workflows.plan import Plan

SEOUL = "seoul/s1/callbridge"
BUSAN = "busan/b1/callbridge"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give an open journal."""
    with Journal.open(f"sqlite:///{tmp_path / 'journal.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def authority() -> ca.CA:
    """Give a CA."""
    return ca.make_ca()


@pytest.fixture
def plan(journal: Journal) -> Plan:
    """Give the plan of a run whose one sign gate is approved."""
    plan = a_run(journal, the_fleet())
    approve(journal)
    return plan


def take(journal: Journal, files: dict[str, bytes], **asked: str) -> papers.Delivery:
    """Deliver *files* at the moment of the test CA."""
    return papers.deliver(journal, RUN, files, by="bob", now=NOW, **asked)


def delivered(journal: Journal) -> list[object]:
    """Return what the journal holds of deliveries."""
    return [event.data for event in journal.events(RUN) if event.kind is Kind.CERTIFICATES_DELIVERED]


# Without a root in the inventory nobody can tell one private CA from another: see the test below.
REFUSED = sorted(set(ca.DEFECTS) - {"other_ca"})


@pytest.mark.parametrize("defect", REFUSED)
def test_a_bad_certificate_is_refused_and_nothing_is_written(
    journal: Journal, plan: Plan, authority: ca.CA, defect: str
) -> None:
    """Whatever the CA got wrong is named, with a remedy, and the journal does not change."""
    bad = ca.DEFECTS[defect](authority, csr_of(journal, plan, SEOUL))
    before = len(list(journal.events(RUN)))
    with pytest.raises(CertificateError) as refused:
        take(journal, {"answer.pem": ca.pem(bad.everything)})
    assert all(one.what and one.remedy for one in refused.value.findings)
    assert (len(list(journal.events(RUN))), journal.state(RUN).lanes["seoul"].certificates) == (before, {})


def test_a_root_nobody_knows_is_named_in_a_warning(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """The certificate of another CA is whole in itself; its root's fingerprint is shown for comparison."""
    other = ca.other_ca(authority, csr_of(journal, plan, SEOUL))
    found = take(journal, {"answer.pem": ca.pem(other.everything)})
    assert any("Other Root CA" in one.what and "SHA-256" in one.what for one in found.warnings)


@pytest.mark.parametrize("encoding", sorted(ca.ENCODINGS))
def test_every_way_to_write_them_is_read(journal: Journal, plan: Plan, authority: ca.CA, encoding: str) -> None:
    """As they come by mail, from Windows, or out of a PKCS#7 file."""
    good = ca.Delivery(certificate=authority.sign(csr_of(journal, plan, SEOUL)), pool=authority.issuers)
    found = take(journal, {"answer": ca.ENCODINGS[encoding](good.everything)})
    assert (found.taken, found.missing, found.complete) == ((SEOUL,), (), ("seoul",))


def test_single_files_in_bytes_and_any_order(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """Root, leaf and issuer, each a DER file of its own."""
    leaf = authority.sign(csr_of(journal, plan, SEOUL))
    pile = (authority.root.certificate, leaf, authority.issuing.certificate)
    take(journal, {f"{number}.der": ca.der([one]) for number, one in enumerate(pile)})
    certificate, chain = papers.certificate_of(journal, journal.state(RUN).lanes["seoul"], SEOUL)
    assert (certificate, chain) == (leaf, (leaf, *authority.issuers))


def test_a_private_key_in_the_pile_is_refused_and_not_kept(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """The finding names the file; no blob holds the key."""
    key = ca.new_key()
    leaf = authority.sign(csr_of(journal, plan, SEOUL))
    with pytest.raises(CertificateError) as refused:
        take(journal, {"all.pem": ca.with_private_key([leaf, *authority.issuers], key)})
    assert [one.where for one in refused.value.findings if "private key" in one.what] == ["all.pem"]
    assert delivered(journal) == []


def test_all_findings_of_all_files_come_at_once(journal: Journal, authority: ca.CA) -> None:
    """Two lanes, a defect in each: both are named, and neither is taken."""
    plan = a_run(journal, the_fleet("seoul", "busan"))
    approve(journal)
    bad = ca.expired(authority, csr_of(journal, plan, SEOUL))
    worse = ca.without_client_auth(authority, csr_of(journal, plan, BUSAN))
    with pytest.raises(CertificateError) as refused:
        take(journal, {"a.pem": ca.pem(bad.everything), "b.pem": ca.pem(worse.everything)})
    named = {one.where.rpartition("(")[2].rstrip(")") for one in refused.value.findings}
    assert (named, delivered(journal)) == ({SEOUL, BUSAN}, [])


def test_one_pile_for_several_lanes_is_sorted_by_key(journal: Journal, authority: ca.CA) -> None:
    """People send what the CA sent; nobody has to say which certificate is whose."""
    plan = a_run(journal, the_fleet("seoul", "busan"))
    approve(journal)
    leaves = {wish: authority.sign(csr_of(journal, plan, wish)) for wish in (BUSAN, SEOUL)}
    found = take(journal, {"all.p7b": ca.pkcs7_der([*leaves.values(), *authority.issuers])})
    state = journal.state(RUN)
    held = {wish: papers.certificate_of(journal, state.lanes[wish.split("/")[0]], wish)[0] for wish in leaves}
    assert (held, set(found.complete)) == (leaves, {"seoul", "busan"})


def test_what_is_still_missing_is_told_and_may_come_later(journal: Journal, authority: ca.CA) -> None:
    """The second pile needs no issuers: they came with the first."""
    plan = a_run(journal, the_fleet("seoul", "busan"))
    approve(journal)
    first = take(journal, {"a": ca.pem([authority.sign(csr_of(journal, plan, SEOUL)), *authority.issuers])})
    second = take(journal, {"b": ca.pem([authority.sign(csr_of(journal, plan, BUSAN))])})
    assert (first.missing, first.complete, second.missing, second.complete) == (
        (BUSAN,),
        ("seoul",),
        (),
        ("seoul", "busan"),
    )


def test_what_was_taken_before_is_named_so_and_refuses_nothing_else(journal: Journal, authority: ca.CA) -> None:
    """Whoever gives the whole folder once more means the rest of it: a lane that has gone on is no stranger."""
    plan = a_run(journal, the_fleet("seoul", "busan"))
    approve(journal)
    first, second = (ca.pem([authority.sign(csr_of(journal, plan, wish))]) for wish in (SEOUL, BUSAN))
    take(journal, {"a": first, "issuers": ca.pem(authority.issuers)})
    assert journal.write(lambda tx: gates.pass_gate(tx, run=RUN, lane="seoul", gate="seoul/sign"))
    again = take(journal, {"a": first, "issuers": ca.pem(authority.issuers)})
    assert (again.taken, again.missing) == ((), (BUSAN,))
    seen = papers.examine(journal, RUN, {"a": first, "b": second}, now=NOW)
    assert ([(one.name, one.wishes) for one in seen.files], seen.faults) == ([("a", (SEOUL,)), ("b", (BUSAN,))], ())
    both = take(journal, {"a": first, "b": second})
    assert (both.taken, both.complete) == ((BUSAN,), ("busan",))
    assert [(one.where, one.what) for one in both.warnings if "already" in one.what] == [
        (f"a ({SEOUL})", "this certificate was delivered already")
    ]


def test_nothing_is_taken_before_the_approval(journal: Journal, authority: ca.CA) -> None:
    """The remedy says how to approve."""
    plan = a_run(journal, the_fleet())
    leaf = authority.sign(csr_of(journal, plan, SEOUL))
    with pytest.raises(GateError) as refused:
        take(journal, {"a": ca.pem([leaf, *authority.issuers])})
    assert ("gates approve" in refused.value.remedy(), delivered(journal)) == (True, [])


def test_a_lane_that_waits_for_nothing_takes_nothing(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """Another lane's name is told apart from one that is not approved."""
    with pytest.raises(GateError, match="waits for certificates"):
        take(journal, {"a": ca.pem(authority.issuers)}, lane="busan")


def test_files_without_a_certificate_for_this_run_are_refused(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """Issuers alone are no answer."""
    with pytest.raises(CertificateError, match="no certificate for this run"):
        take(journal, {"a": ca.pem(authority.issuers)})


def test_blobs_hold_leaf_and_chain(journal: Journal, plan: Plan, authority: ca.CA) -> None:
    """What the gate *go* is bound to is the digest of the leaf's bytes."""
    leaf = authority.sign(csr_of(journal, plan, SEOUL))
    take(journal, {"a": ca.pem([leaf, *authority.issuers])})
    lane = journal.state(RUN).lanes["seoul"]
    digest = str(lane.certificates[SEOUL]["leaf"])
    assert journal.read(partial(stock.get_blob, sha256=digest)) == ca.pem([leaf])
    assert papers.papers_of(plan, "seoul", "go", lane) == {SEOUL: digest}


def test_a_failed_server_is_not_waited_for(journal: Journal, plan: Plan) -> None:
    """A node that a barrier let go, wherever it failed, needs no certificate any more."""
    state = journal.state(RUN).lanes["seoul"]
    failed = replace(state, excused=frozenset({"seoul/s1/prepare"}))
    assert (papers.wishes_of(plan, "seoul", state), papers.wishes_of(plan, "seoul", failed)) == ((SEOUL,), ())
