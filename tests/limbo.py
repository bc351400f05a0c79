"""Run the cases of x509-limbo through `workflows.x509.chain.verify_chain`: `python -m tests.limbo PATH`.

Prints how many cases agree, and each deviation with its reason. A deviation without a reason ends with exit code 1,
and so does a reason that no case needs any more; the reasons therefore always describe what the code does today.
x509-limbo (C2SP, Apache-2.0) is outside test data and not part of this project.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from workflows.errors import CertificateError
from workflows.x509.chain import verify_chain
from workflows.x509.request import UNREADABLE

_CRL = "revocation is not looked at: the core has no network, and a certificate is checked the moment it is issued"
_IDENTIFIER = (
    "private CAs write key identifiers in many ways, or none; the way is found by name and signature, which are checked"
)
_PUBLIC_CN = (
    "a rule for public CAs only (CN must be among the SANs); the CN is never looked at as a name here, and the names "
    "that were asked for are compared by `acceptance`. Database certificates are meant to have such a CN (row S1)"
)
_PUBLIC_SUFFIX = (
    "needs the public suffix list, which a fleet's own names do not; `names` refuses only *.<top level domain>"
)
_SELF_ISSUED = "the library counts self-issued intermediates too; refusing more than RFC 5280 does is the safe side"
_LEAF_CA = "CA certificates are refused as a server's own, on purpose (faults.md section 6.1)"

# Case → why our verdict differs. One line a case: no patterns, so that a new case never hides behind an old reason.
REASONS: Mapping[str, str] = {
    "crl::revoked-certificate-with-crl": _CRL,
    "crl::crlnumber-missing": _CRL,
    "crl::crlnumber-critical": _CRL,
    "crl::issuer-missing-crlsign": _CRL,
    "pathlen::validation-ignores-pathlen-in-leaf": _LEAF_CA,
    "pathlen::self-issued-certs-pathlen": _SELF_ISSUED,
    "pathlen::max-chain-depth-1-self-issued": _SELF_ISSUED,
    "rfc5280::aki::leaf-missing-aki": _IDENTIFIER,
    "rfc5280::aki::intermediate-missing-aki": _IDENTIFIER,
    "rfc5280::aki::cross-signed-root-missing-aki": _IDENTIFIER,
    "rfc5280::nc::permitted-dns-match-noncritical": (
        "the constraint is obeyed; that it is not marked critical is allowed, as limbo's own case "
        "webpki::nc::permitted-dns-match-noncritical (in conflict with this one) asks"
    ),
    "rfc5280::nc::permitted-dn-match": "the library refuses directory name constraints, as it cannot check them",
    "rfc5280::pc::ica-noncritical-pc": (
        "the library processes no policies: a critical constraint is refused, one that is not critical passed over"
    ),
    "rfc5280::ski::root-missing-ski": _IDENTIFIER,
    "rfc5280::ski::intermediate-missing-ski": _IDENTIFIER,
    "rfc5280::ca-as-leaf": _LEAF_CA,
    "webpki::aki::root-with-aki-missing-keyidentifier": _IDENTIFIER,
    "webpki::aki::root-with-aki-all-fields": _IDENTIFIER,
    "webpki::aki::root-with-aki-ski-mismatch": _IDENTIFIER,
    "webpki::cn::ipv4-hex-mismatch": _PUBLIC_CN,
    "webpki::cn::ipv4-leading-zeros-mismatch": _PUBLIC_CN,
    "webpki::cn::ipv6-uppercase-mismatch": _PUBLIC_CN,
    "webpki::cn::ipv6-uncompressed-mismatch": _PUBLIC_CN,
    "webpki::cn::ipv6-non-rfc5952-mismatch": _PUBLIC_CN,
    "webpki::cn::punycode-not-in-san": _PUBLIC_CN,
    "webpki::cn::utf8-vs-punycode-mismatch": _PUBLIC_CN,
    "webpki::cn::not-in-san": _PUBLIC_CN,
    "webpki::cn::case-mismatch": _PUBLIC_CN,
    "webpki::eku::ee-anyeku": "a rule for public CAs; RFC 5280 section 4.2.1.12 lets anyExtendedKeyUsage stand for all",
    "webpki::eku::ee-critical-eku": "a rule for public CAs; RFC 5280 section 4.2.1.12 lets the extension be critical",
    "webpki::eku::ee-without-eku": "a rule for public CAs; no extended key usage means all, as the server reads it too",
    "webpki::eku::root-has-eku": "a rule for public roots; the usages that a root lists are obeyed",
    "webpki::san::public-suffix-multi-label-wildcard-san": _PUBLIC_SUFFIX,
    "webpki::san::public-suffix-private-namespace-wildcard-san": _PUBLIC_SUFFIX,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One case: what it expects, what we said, and in whose words."""

    case: str
    expected: str  # "SUCCESS" or "FAILURE"
    said: str
    because: str


def load(path: Path) -> list[dict[str, Any]]:
    """Return the cases in *path* without the generated ones of bettertls."""
    cases = json.loads(path.read_text(encoding="utf-8"))["testcases"]
    return [case for case in cases if not case["id"].startswith("bettertls::")]


def run(case: Mapping[str, Any]) -> Verdict:
    """Return our verdict on one case. A certificate that cannot even be parsed is refused."""
    try:
        with warnings.catch_warnings():
            # Damaged certificates are the point of many cases; the library warns of some before it refuses them.
            warnings.simplefilter("ignore")
            _verify(case)
    except (CertificateError, *UNREADABLE) as error:
        return Verdict(case=case["id"], expected=case["expected_result"], said="FAILURE", because=str(error))
    return Verdict(case=case["id"], expected=case["expected_result"], said="SUCCESS", because="it holds")


def _verify(case: Mapping[str, Any]) -> None:
    name, server = case["expected_peer_name"], case["validation_kind"] == "SERVER"
    verify_chain(
        x509.load_pem_x509_certificate(case["peer_certificate"].encode()),
        pool=[x509.load_pem_x509_certificate(pem.encode()) for pem in case["untrusted_intermediates"]],
        anchors=[x509.load_pem_x509_certificate(pem.encode()) for pem in case["trusted_certs"]],
        # Limbo leaves the time out where the present will do: those certificates hold for decades.
        now=datetime.fromisoformat(case["validation_time"]) if case["validation_time"] else datetime.now(UTC),
        usages=frozenset({"server" if server else "client"}),
        peer_name=name["value"] if server and name else "",
        maximum_depth=case["max_chain_depth"],
    )


def judge(verdicts: Sequence[Verdict], reasons: Mapping[str, str]) -> tuple[list[Verdict], list[Verdict], list[str]]:
    """Return deviations with a reason, deviations without one, and reasons that nothing needs."""
    deviating = [verdict for verdict in verdicts if verdict.said != verdict.expected]
    explained = [verdict for verdict in deviating if verdict.case in reasons]
    unexplained = [verdict for verdict in deviating if verdict.case not in reasons]
    needless = sorted(set(reasons) - {verdict.case for verdict in deviating})
    return explained, unexplained, needless


def report(verdicts: Sequence[Verdict], reasons: Mapping[str, str]) -> tuple[str, int]:
    """Return what is to be printed, deviations grouped by their reason, and the exit code."""
    explained, unexplained, needless = judge(verdicts, reasons)
    agreeing = len(verdicts) - len(explained) - len(unexplained)
    lines = [f"x509-limbo: {len(verdicts)} cases, {agreeing} agree, {len(explained)} deviate with a reason"]
    for reason in dict.fromkeys(reasons[verdict.case] for verdict in explained):
        lines.append(f"\n  {reason}:")
        lines += [f"    {each.case}: {_difference(each)}" for each in explained if reasons[each.case] == reason]
    lines += [f"  WITHOUT A REASON {each.case}: {_difference(each)}: {each.because}" for each in unexplained]
    lines += [f"  NEEDLESS REASON {case}: the verdict agrees, or the case is gone; remove it" for case in needless]
    return "\n".join(lines) + "\n", 1 if unexplained or needless else 0


def _difference(verdict: Verdict) -> str:
    return f"expected {verdict.expected}, we say {verdict.said}"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.limbo PATH-OF-limbo.json\n")
        return 2
    text, code = report([run(case) for case in load(Path(arguments[0]))], REASONS)
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
