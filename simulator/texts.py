"""Every sentence an appliance says, each with its standing, so that a real transcript can replace it.

Status layouts stand in `status.py`. The sources are the ids of the MMP reference ("S6"), "base" for the base document,
"recalled" for what was remembered from the manual, "guess" for what was made up for want of a source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Standing(StrEnum):
    """How far a literal can be trusted."""

    VERBATIM = "verbatim"
    RECALLED = "recalled"
    GUESSED = "guessed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One literal: a `str.format` template, its standing and its source."""

    template: str
    standing: Standing
    source: str


def _verbatim(template: str, source: str) -> Text:
    return Text(template=template, standing=Standing.VERBATIM, source=source)


def _recalled(template: str) -> Text:
    return Text(template=template, standing=Standing.RECALLED, source="recalled")


def _guessed(template: str) -> Text:
    return Text(template=template, standing=Standing.GUESSED, source="guess")


TEXTS: Mapping[str, Text] = MappingProxyType(
    {
        # shell
        "shell.prompt": _verbatim("{hostname}> ", "S12"),
        "shell.welcome": _guessed("Welcome to the CMS VM\n"),
        "shell.unknown": _guessed("Unknown command: {line}\n"),
        "shell.usage": _guessed("FAILURE: usage: {usage}\n"),
        "shell.quote": _guessed("FAILURE: unbalanced quotation mark\n"),
        "shell.interrupted": _guessed("^C\n"),
        "shell.fault": _guessed("FAILURE: {text}\n"),
        "shell.file-missing": _guessed("FAILURE: file {file} not found\n"),
        # pki
        "pki.list": _verbatim("User supplied certificates and keys:\n", "S6"),
        "pki.dots": _verbatim("..............\n......\n", "S6"),
        "pki.csr": _verbatim(
            "Created key file {name}.key and CSR {name}.csr\nCSR file {name}.csr ready for download via SFTP\n", "S6"
        ),
        "pki.bad-name": _guessed("FAILURE: invalid basename {name}: letters, digits, - and _ only\n"),
        "pki.bad-attribute": _guessed("FAILURE: invalid attribute {attribute}\n"),
        "pki.no-cn": _guessed("FAILURE: CN must be given\n"),
        "pki.inspect-found": _verbatim(
            "Checking ssh public keys...not found\nChecking user configured certificates and keys...found\n", "base"
        ),
        "pki.inspect-missing": _guessed(
            "Checking ssh public keys...not found\nChecking user configured certificates and keys...not found\n"
        ),
        "pki.inspect-certificate": _verbatim("File contains a {encoding} encoded certificate\n", "base"),
        "pki.inspect-csr": _guessed("File contains a {encoding} encoded certificate request\n"),
        "pki.inspect-key": _guessed(
            "File contains a {encoding} encoded private key\n{bits} bit {algorithm} private key\n"
        ),
        "pki.inspect-locked": _guessed("File contains a {encoding} encoded private key protected by a pass phrase\n"),
        "pki.inspect-unknown": _guessed("File contains data of an unknown type\n"),
        "pki.match": _recalled("Key and certificate pair match\n"),
        "pki.no-match": _recalled("Key and certificate pair do not match\n"),
        "pki.verify": _recalled("SUCCESS: certificate verified against CA bundle\n"),
        "pki.no-verify": _recalled("FAILURE: certificate could not be verified against CA bundle\n"),
        "pki.verify-reason": _guessed("{reason}\n"),
        "pki.selfsigned": _guessed("Created key file {name}.key and certificate {name}.crt\n"),
        "pki.sign": _guessed("Created certificate {name}.crt\n"),
        "pki.not-a-key": _guessed("FAILURE: {file} is not a private key\n"),
        "pki.not-a-certificate": _guessed("FAILURE: {file} is not a certificate\n"),
        "pki.not-a-csr": _guessed("FAILURE: {file} is not a certificate request\n"),
        "pki.pass-phrase": _guessed("Please enter passphrase: "),
        "pki.unlocked": _guessed("Key file {file} unlocked\n"),
        "pki.wrong-pass-phrase": _guessed("FAILURE: wrong passphrase\n"),
        "pki.pkcs12": _guessed("Created key file {name}.key and certificate {name}.crt\n"),
        # enable and restart
        "check.pair": _verbatim("SUCCESS: Key and certificate pair match\n", "S6"),
        "check.no-pair": _recalled("FAILURE: Key and certificate pair do not match\n"),
        "check.bundle": _verbatim("SUCCESS: certificate verified against CA bundle\n", "S21"),
        "check.no-bundle": _recalled("FAILURE: certificate could not be verified against CA bundle\n"),
        "check.labelled-pair": _recalled("SUCCESS: {label} Key and certificate pair match\n"),
        "check.labelled-no-pair": _recalled("FAILURE: {label} Key and certificate pair do not match\n"),
        "check.full-chain": _recalled("SUCCESS: {label} full chain of certificates verifies correctly\n"),
        "check.no-full-chain": _guessed("FAILURE: {label} full chain of certificates does not verify\n"),
        "check.no-certs": _verbatim("FAILURE: TLS port set but no certificates configured\n", "S6"),
        "check.incomplete": _verbatim("FAILURE: {title} configuration not complete\n", "S6"),
        "check.unreadable": _guessed("FAILURE: {file} could not be read\n"),
        "check.webadmin": _recalled("SUCCESS: TLS interface and port configured\n"),
        "check.callbridge": _recalled("SUCCESS: listen interface configured\n"),
        "check.xmpp": _recalled("SUCCESS: Callbridge activated\nSUCCESS: Domain configured\n"),
        "enabled.webadmin": _recalled(""),
        "enabled.callbridge": _recalled(""),
        "enabled.webbridge": _verbatim("SUCCESS: Webbridge enabled\n", "S21"),
        "enabled.webbridge3": _recalled("SUCCESS: Webbridge3 enabled\n"),
        "enabled.xmpp": _recalled("SUCCESS: XMPP server enabled\n"),
        "enabled.turn": _recalled("SUCCESS: TURN server enabled\n"),
        "enabled.loadbalancer": _guessed("SUCCESS: loadbalancer enabled\n"),
        "enabled.trunk": _guessed("SUCCESS: trunk enabled\n"),
        "enabled.recorder": _recalled("SUCCESS: Recorder enabled\n"),
        "enabled.streamer": _verbatim("SUCCESS: Streamer enabled\n", "S6"),
        "enabled.scheduler": _guessed("SUCCESS: Scheduler enabled\n"),
        "enabled.h323_gateway": _guessed("SUCCESS: H323 gateway enabled\n"),
        "enabled.uploader": _verbatim("SUCCESS: uploader enabled\n", "S6"),
        "service.disabled": _guessed(""),
        "service.not-enabled": _guessed("FAILURE: {title} is not enabled\n"),
        "service.bad-port": _guessed("FAILURE: invalid port {port}\n"),
        "service.no-tag": _guessed("FAILURE: {tag} does not exist\n"),
        # other commands
        "hostname.set": _verbatim("A reboot is required for the change to take effect\n", "S38"),
        "hostname.show": _guessed("{hostname}\n"),
        "version": _guessed("{release}\n"),
        "date": _guessed("System time: {utc:%Y-%m-%d %H:%M:%S} UTC\nLocal time: {utc:%Y-%m-%d %H:%M:%S}\n"),
        "ipv4": _verbatim(
            "IPv4 configuration:\n"
            "    address         {address}\n"
            "    default         true\n"
            "    dhcp            false\n"
            "    enabled         true\n"
            "    gateway         127.0.0.1\n"
            "    macaddress      00:50:56:BC:FC:7D\n"
            "    prefixlen       8\n"
            "IPv4 observed values\n"
            "Addresses:\n"
            "{address}/8\n"
            "Routes:\n"
            "    source          destination     gateway         global\n"
            "    0.0.0.0         {address}  0.0.0.0         false\n",
            "S38",
        ),
        "license": _verbatim(
            "Feature: {feature} status: Activated expiry: {expiry:%Y-%b-%d} ({days} days remain)\n", "S6"
        ),
        "user.head": _verbatim("USERNAME      ROLE      PASSWORD EXPIRY    LOGGED IN\n", "S25"),
        "user.row": _verbatim("{name:<14}{role:<10}{expiry:<19}{present}\n", "S25"),
        "backup": _recalled("{name}.bak ready for download\n"),
        "reboot.question": _recalled("Are you sure you wish to reboot? (Y/n)"),
        "reboot.begun": _guessed("Rebooting...\n"),
        "help.head": _guessed("Commands:\n"),
        "help.row": _guessed("    {command}\n"),
        "syslog": _verbatim(
            "{utc:%b %d %H:%M:%S} local0.info {hostname} cli: User {user} from {peer} issued command < {line}>: "
            "permission granted\n",
            "S8",
        ),
        "syslog.garbage": _verbatim(
            "{utc:%b %d %H:%M:%S} user.info {hostname} sfpool:  Health check {address}: error (up = 1): "
            "could not connect to server: Connection refused\n",
            "S1",
        ),
        "question": _guessed("WARNING!!!\nThis operation will interrupt calls. Continue? (Y/n)"),
        # database cluster: the questions are recalled (MMP reference 1.3), their order is not sure
        "database.initialize.question": _recalled(
            "WARNING!!!\nAre you sure you wish to initialize this node as a new database cluster? (Y/n)"
        ),
        "database.initialize.started": _recalled(
            "The contents of this node's database will become the master version of the database in the new cluster.\n"
            "Initialization started...\n"
        ),
        "database.join.question": _recalled(
            "WARNING!!!\nAre you sure you wish to attach this node to an existing database cluster? (Y/n)"
        ),
        "database.join.started": _recalled(
            "The contents of this node's database will be destroyed!\nAttachment started...\n"
        ),
        "database.connect.question": _recalled(
            "WARNING!!!\nAre you sure you wish to connect this node to an existing database cluster? (Y/n)"
        ),
        "database.connect.started": _recalled(
            "The contents of this node's database will not be used while connected.\nConnecting started...\n"
        ),
        "database.remove.question": _recalled(
            "WARNING!!!\nAre you sure you wish to detach this node from a database cluster? (Y/n)"
        ),
        "database.remove.started": _guessed("Detachment started...\n"),
        "database.upgrade_schema.started": _guessed("Schema upgrade started...\n"),
        "database.unconfirmed": _guessed(""),
        "database.busy": _guessed("FAILURE: a database cluster operation is in progress\n"),
        "database.clustered": _guessed("FAILURE: not allowed while this node is in a database cluster\n"),
        "database.not-clustered": _guessed("FAILURE: this node is not in a database cluster\n"),
        "database.no-localnode": _guessed("FAILURE: no local interface configured\n"),
        "database.no-interface": _guessed("FAILURE: no interface {interface}\n"),
        "database.no-certs": _guessed("FAILURE: no certificates configured\n"),
        # database cluster: the ERROR row
        "database.schema": _verbatim("Couldn't upgrade the schema", "S1"),
        "database.lost": _guessed("The operation was interrupted"),
        "database.failed": _guessed("The operation failed"),
        "database.unreadable": _guessed("{file} could not be read"),
        "database.expired": _guessed("Certificate {file} has expired"),
        "database.no-match": _guessed("Key and certificate {file} do not match"),
        "database.no-verify": _guessed("Certificate {file} could not be verified against the CA certificate"),
        "database.client-name": _guessed("Client certificate {file}: the CN must be postgres"),
        "database.other-authority": _guessed("The CA certificate differs from that of {address}"),
        "database.no-primary": _guessed("Couldn't connect to a primary at {address}"),
        "database.full": _guessed("The cluster has {most} nodes already"),
        "database.nodes-expired": _guessed("A certificate of the database cluster has expired"),
        # database cluster: values of the other rows; their layout is in database_status.py
        "database.primary": _verbatim("Primary", "S1"),
        "database.replica": _verbatim("Replica", "S1"),
        "database.master": _recalled("Master"),
        "database.slave": _recalled("Slave"),
        "database.connected": _verbatim("Connected {role}", "S1"),
        "database.in-sync": _verbatim("Connected {role} ( In Sync )", "S1"),
        "database.syncing": _guessed("Connected {role} ( Sync in progress )"),
        "database.out-of-sync": _guessed("Connected {role} ( Out of Sync )"),
        "database.connection-failure": _guessed("{role} ( Connection Failure )"),
        "database.expired-file": _guessed("{file} ( Expired )"),
    }
)


def say(key: str, overrides: Mapping[str, str] | None = None, /, **values: object) -> str:
    """Return the sentence *key* with *values* filled in; *overrides* (key to template) wins over the table."""
    template = TEXTS[key].template
    if overrides is not None:
        template = overrides.get(key, template)
    return template.format(**values)
