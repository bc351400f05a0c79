"""The layouts of the bare status commands (MMP reference 4.1), as tables of rows.

Column widths are irregular in the product, so each row is written out. A row with `when` is printed only if that value
is set. Layouts marked guessed have no source at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from simulator.services import Service
from simulator.texts import Standing


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a template over the values of `status_values`, and the value without which it is left out."""

    template: str
    when: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The rows of one status command."""

    rows: tuple[Row, ...]
    standing: Standing
    source: str


def _layout(standing: Standing, source: str, *rows: str | Row) -> Layout:
    return Layout(
        rows=tuple(Row(row) if isinstance(row, str) else row for row in rows), standing=standing, source=source
    )


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "webadmin": _layout(
            Standing.VERBATIM,
            "S5 (the row of the CA bundle is guessed)",
            "Enabled                 : {enabled}",
            "TLS listening interface : {webadmin.interface}",
            "TLS listening port      : {webadmin.port}",
            "Key file                : {webadmin.key}",
            "Certificate file        : {webadmin.certificate}",
            Row("CA Bundle file          : {webadmin.bundle}", "webadmin.bundle"),
            "HTTP redirect           : Disabled",
            "STATUS                  : {state}",
        ),
        "callbridge": _layout(
            Standing.VERBATIM,
            "S5 S8",
            "Listening interfaces  : {callbridge.interface}",
            "Preferred interface   : none",
            "Key file              : {callbridge.key}",
            "Certificate file      : {callbridge.certificate}",
            "Address               : none",
            Row("CA Bundle file        : {callbridge.bundle}", "callbridge.bundle"),
            "C2W trusted certs                   : {callbridge.trust.c2w}",
            "Callbridge cluster trusted certs    : {callbridge.trust.cluster}",
            "Callbridge trust branding certs     : {callbridge.trust.branding}",
            Row("UCM trusted certs         : {callbridge.ucm.certs}", "since 3.8"),
            Row("UCM verification mode     : {ucm verify}", "since 3.8"),
            Row("IMPS trusted certs        : {callbridge.imps.certs}", "since 3.8"),
            Row("IMPS verification mode    : {imps verify}", "since 3.8"),
            Row("WC3 JWT Expiry in hours   : 24", "since 3.0"),
            Row("AV1 Video Codec : disabled", "since 3.9"),
        ),
        "webbridge3": _layout(
            Standing.VERBATIM,
            "S5",
            "Enabled                               : {enabled}",
            "HTTPS listening ports and interfaces  : {webbridge3.https.listen}",
            "HTTPS Key file                        : {webbridge3.https.key}",
            "HTTPS Full chain certificate file     : {webbridge3.https.certificate}",
            "HTTPS Frame-Ancestors                 : none",
            "HTTP redirect                         : Disabled",
            "C2W listening ports and interfaces    : {webbridge3.c2w.listen}",
            "C2W Key file                          : {webbridge3.c2w.key}",
            "C2W Full chain certificate file       : {webbridge3.c2w.certificate}",
            "C2W Trust bundle                      : {webbridge3.c2w.trust}",
            "Meetingapps address                   : none",
            "Meetingapps port                      : none",
            "Audio priority flag                   : Enabled",
            "Beta options                          : none",
        ),
        "turn": _layout(
            Standing.VERBATIM,
            "S5",
            "Enabled                 : {enabled}",
            "Username                : {username}",
            "Password                : {password}",
            "Short term credentials  : disabled",
            "Shared secret           : none",
            "Realm                   : {realm}",
            "Public IP               : none",
            "High Capacity Mode      : enabled",
            "Relay address           : {address}",
            "TLS port                : {turn.port}",
            "TLS cert                : {turn.certificate}",
            "TLS key                 : {turn.key}",
            "TLS bundle              : {turn.bundle}",
            "Listen interface      {turn.interface}",
        ),
        "recorder": _layout(
            Standing.VERBATIM,
            "S7 (widths lost)",
            "Enabled                 : {enabled}",
            "SIP interfaces          : tcp none, tls {recorder.listen}",
            "SIP key file            : {recorder.key}",
            "SIP certificate file    : {recorder.certificate}",
            "SIP CA Bundle file      : {recorder.bundle}",
            "SIP traffic trace       : Disabled",
            "NFS domain name         : none",
            "NFS directory           : none",
            "Resolution              : 720p",
            "Call Limit              : none",
        ),
        "streamer": _layout(
            Standing.VERBATIM,
            "S6",
            "Enabled                 : {enabled}",
            "SIP interfaces          : tcp none, tls {streamer.listen}",
            "SIP key file            : {streamer.key}",
            "SIP certificate file    : {streamer.certificate}",
            "SIP CA Bundle file      : {streamer.bundle}",
            "SIP Resolution          : 720p",
            "SIP traffic trace       : Disabled",
            "Call Limit              : none",
        ),
        "recorder 2": _layout(
            Standing.GUESSED,
            "as streamer, S9",
            "Enabled                 : {enabled}",
            "Interface whitelist     : {recorder.listen}",
            "Key file                : {recorder.key}",
            "Certificate file        : {recorder.certificate}",
            Row("CA Bundle file          : {recorder.bundle}", "recorder.bundle"),
            "Trust bundle            : {recorder.trust}",
            "NFS domain name         : none",
            "NFS directory           : none",
        ),
        "streamer 2": _layout(
            Standing.VERBATIM,
            "S9",
            "Enabled                 : {enabled}",
            "Interface whitelist     : {streamer.listen}",
            "Key file                : {streamer.key}",
            "Certificate file        : {streamer.certificate}",
            Row("CA Bundle file          : {streamer.bundle}", "streamer.bundle"),
            "Trust bundle            : {streamer.trust}",
        ),
        "uploader": _layout(
            Standing.VERBATIM,
            "S6 (these rows only)",
            "Enabled                          : {enabled}",
            "CMS trust bundle                 : {uploader.cms.trust}",
            "Vbrick Rev trust bundle          : {uploader.rev.trust}",
        ),
        "webbridge": _layout(
            Standing.GUESSED,
            "guess",
            "Enabled                 : {enabled}",
            "Interface whitelist     : {webbridge.listen}",
            "Key file                : {webbridge.key}",
            "Certificate file        : {webbridge.certificate}",
            "CA Bundle file          : {webbridge.bundle}",
            "Trust bundle            : {webbridge.trust}",
            "HTTP redirect           : Disabled",
        ),
        "xmpp": _layout(
            Standing.GUESSED,
            "guess",
            "Enabled                 : {enabled}",
            "Clustered               : false",
            "Domain                  : {domain}",
            "Listening interfaces    : {xmpp.interface}",
            "Key file                : {xmpp.key}",
            "Certificate file        : {xmpp.certificate}",
            "CA Bundle file          : {xmpp.bundle}",
            "Cluster trust bundle    : {xmpp.cluster.trust}",
            "STATUS                  : {state}",
        ),
        "loadbalancer": _layout(
            Standing.GUESSED,
            "guess",
            "Tag                     : {tag}",
            "Enabled                 : {enabled}",
            "Public interfaces       : {loadbalancer.listen}",
            "Auth key file           : {loadbalancer.key}",
            "Auth certificate file   : {loadbalancer.certificate}",
            "Auth trust bundle       : {loadbalancer.bundle}",
        ),
        "trunk": _layout(
            Standing.GUESSED,
            "guess",
            "Tag                     : {tag}",
            "Enabled                 : {enabled}",
            "Auth key file           : {trunk.key}",
            "Auth certificate file   : {trunk.certificate}",
            "Auth trust bundle       : {trunk.bundle}",
        ),
        "scheduler": _layout(
            Standing.GUESSED,
            "as webbridge3, S5",
            "Enabled                               : {enabled}",
            "HTTPS listening interface             : {scheduler.https.listen}",
            "HTTPS Key file                        : {scheduler.https.key}",
            "HTTPS Full chain certificate file     : {scheduler.https.certificate}",
            "C2W Key file                          : {scheduler.c2w.key}",
            "C2W Full chain certificate file       : {scheduler.c2w.certificate}",
            "C2W Trust bundle                      : {scheduler.c2w.trust}",
        ),
        "h323_gateway": _layout(
            Standing.GUESSED,
            "guess",
            "Enabled                 : {enabled}",
            "Key file                : {h323_gateway.key}",
            "Certificate file        : {h323_gateway.certificate}",
            "CA Bundle file          : {h323_gateway.bundle}",
        ),
        "tls sip": _layout(
            Standing.GUESSED,
            "guess",
            "SIP trusted certs       : {tls.sip.trust}",
            "SIP verification mode   : {tls verify}",
        ),
    }
)


def status_values(service: Service, extra: Mapping[str, str]) -> dict[str, str]:
    """Return every value a layout may name; "none" where nothing is set, as the product writes it."""
    name = service.kind.name
    state = (
        f"{name} running"
        if service.up and name == "webadmin"
        else f"{name} {'running' if service.up else 'not running'}"
    )
    values = {"enabled": str(service.enabled).lower(), "state": state, "tag": service.tag or "none"}
    for store, file in service.trusts.items():
        values[store] = file or "none"
    for endpoint_name, endpoint in service.endpoints.items():
        listen = "none" if endpoint.port is None else f"{endpoint.interface}:{endpoint.port}"
        values |= {
            f"{endpoint_name}.interface": endpoint.interface,
            f"{endpoint_name}.port": "none" if endpoint.port is None else str(endpoint.port),
            f"{endpoint_name}.listen": listen,
            f"{endpoint_name}.key": endpoint.key or "none",
            f"{endpoint_name}.certificate": endpoint.certificate or "none",
            f"{endpoint_name}.bundle": endpoint.bundle or "none",
        }
    return values | service.options | dict(extra)


def render(layout_name: str, values: Mapping[str, str]) -> str:
    """Return the status text of the layout called *layout_name*.

    The names of values hold dots and spaces, which `str.format` would read as attributes, hence the plain replacement.
    """
    lines = []
    for row in LAYOUTS[layout_name].rows:
        if row.when is not None and values.get(row.when, "none") == "none":
            continue
        line = row.template
        for name in _names(line):
            line = line.replace("{" + name + "}", values[name])
        lines.append(line)
    return "\n".join(lines) + "\n"


def _names(template: str) -> list[str]:
    return [part.split("}")[0] for part in template.split("{")[1:]]
