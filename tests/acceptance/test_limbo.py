"""x509-limbo: what others know about bad certificates, against our chain verification (`make limbo`)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from tests.limbo import REASONS, Verdict, judge, load, main, report, run

ROOT = Path(__file__).resolve().parents[2]
AGREES = Verdict(case="a::agrees", expected="FAILURE", said="FAILURE", because="refused")
DEVIATES = Verdict(case="a::deviates", expected="FAILURE", said="SUCCESS", because="it holds")


@pytest.fixture(scope="module")
def limbo() -> Path:
    """Return where limbo.json is: LIMBO, else beside the repository as `make limbo` looks for it."""
    path = Path(os.environ.get("LIMBO") or ROOT.parent / "shared" / "vectors" / "x509-limbo.json")
    if not path.exists():
        sentence = "x509-limbo.json is not here; `make limbo` says where to get it"
        if os.environ.get("CERTBRIDGE_TOOLS_REQUIRED"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return path


@pytest.mark.needs_limbo
def test_every_deviation_has_a_reason_and_every_reason_a_deviation(limbo, capsys):
    """The program ends with 0 and counts all cases."""
    code = main([str(limbo)])
    output = capsys.readouterr().out
    assert code == 0, output
    assert f"x509-limbo: {len(load(limbo))} cases" in output
    assert f"{len(REASONS)} deviate with a reason" in output


@pytest.mark.needs_limbo
@pytest.mark.parametrize("case", ["webpki::san::no-san", "rfc5280::san::malformed", "webpki::san::mismatch-domain-san"])
def test_leaf_without_the_name_among_its_sans_is_refused(case, limbo):
    """No SAN, a malformed one, another one: the CN never helps."""
    (found,) = [each for each in load(limbo) if each["id"] == case]
    assert run(found).said == "FAILURE"


@pytest.mark.needs_limbo
@pytest.mark.parametrize("case", ["webpki::cn::not-in-san", "webpki::cn::punycode-not-in-san"])
def test_name_that_only_the_cn_has_is_refused(case, limbo):
    """Limbo asks these for a name among the SANs, which holds; asked for the name in the CN, we refuse."""
    (found,) = [each for each in load(limbo) if each["id"] == case]
    (name,) = x509.load_pem_x509_certificate(found["peer_certificate"].encode()).subject
    asked = {**found, "expected_peer_name": {"kind": "DNS", "value": name.value}}
    assert (name.value != found["expected_peer_name"]["value"], run(asked).said) == (True, "FAILURE")


def test_deviation_without_a_reason_fails_the_run():
    """A new case cannot hide."""
    text, code = report([AGREES, DEVIATES], {})
    assert (code, "WITHOUT A REASON a::deviates" in text) == (1, True)


def test_reason_that_nothing_needs_fails_the_run():
    """Reasons describe what the code does today."""
    text, code = report([AGREES, replace(DEVIATES, said="FAILURE")], {"a::deviates": "once it did"})
    assert (code, "NEEDLESS REASON a::deviates" in text) == (1, True)


def test_explained_deviation_is_listed_under_its_reason():
    """And the run passes."""
    text, code = report([AGREES, DEVIATES], {"a::deviates": "because we may"})
    assert (code, "because we may:\n    a::deviates: expected FAILURE, we say SUCCESS" in text) == (0, True)
    assert judge([DEVIATES], {"a::deviates": "because we may"}) == ([DEVIATES], [], [])
