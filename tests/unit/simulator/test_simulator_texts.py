"""The literals: verbatim samples of the manual against the tables, and the standing of each."""

from simulator.services import Service, service_kinds
from simulator.status import LAYOUTS, render, status_values
from simulator.texts import TEXTS, Standing, say

WEBADMIN = """\
Enabled                 : true
TLS listening interface : a
TLS listening port      : 443
Key file                : core.key
Certificate file        : cmscore-fullchain.cer
HTTP redirect           : Disabled
STATUS                  : webadmin running
"""


def test_webadmin_reads_as_in_the_manual() -> None:
    """S5, byte for byte; without a bundle there is no row for it."""
    service = Service.of(service_kinds(sip_media=True)["webadmin"])
    service.enabled = True
    endpoint = service.endpoints["webadmin"]
    values = {"webadmin.key": "core.key", "webadmin.certificate": "cmscore-fullchain.cer", "webadmin.port": "443"}
    shown = status_values(service, {}) | values
    assert endpoint.bundle is None
    assert render("webadmin", shown) == WEBADMIN


def test_request_reads_as_in_the_manual() -> None:
    """S6, the two lines after the dots."""
    assert say("pki.csr", None, name="tac") == (
        "Created key file tac.key and CSR tac.csr\nCSR file tac.csr ready for download via SFTP\n"
    )


def test_a_literal_can_be_replaced() -> None:
    """A real transcript wins over the table."""
    assert say("version", {"version": "Release {release} (build 1)\n"}, release="3.9") == "Release 3.9 (build 1)\n"


def test_every_literal_says_where_it_comes_from() -> None:
    """Verbatim literals name a source of the reference; guessed ones do not claim one."""
    verbatim = [text.source for text in TEXTS.values() if text.standing is Standing.VERBATIM]
    assert [source for source in verbatim if not source.startswith(("S", "base"))] == []
    assert {text.source for text in TEXTS.values() if text.standing is Standing.GUESSED} == {"guess"}


def test_every_service_has_a_layout() -> None:
    """No service is without a status."""
    assert set(service_kinds(sip_media=True)) - set(LAYOUTS) == set()
