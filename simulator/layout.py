"""How a fleet is laid out when it starts: authorities, files, settings, and trust stores pinned as in reality.

The old certificates are signed by the root directly. New ones are meant to be signed by the issuing authority below
it, so their chains have three elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator import pki
from simulator.appliance import Appliance
from simulator.console import Script
from simulator.database_layout import DatabaseShape
from simulator.pki import Authority, KeySource, Wish
from simulator.service_commands import start

DOMAIN = "example.com"
JOIN_NAME = f"join.{DOMAIN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A key and certificate on every node: basename, the endpoints that use it, and whether it names the join URL."""

    name: str
    endpoints: tuple[str, ...]
    join: bool = False


# Service of the command line (--services) -> the pairs it needs. Two services may share one pair.
PAIRS: Mapping[str, Pair] = MappingProxyType(
    {
        "webadmin": Pair(name="callbridge", endpoints=("webadmin",), join=True),
        "callbridge": Pair(name="callbridge", endpoints=("callbridge",), join=True),
        "webbridge": Pair(name="webbridge", endpoints=("webbridge",), join=True),
        "webbridge3": Pair(name="webbridge", endpoints=("webbridge3.https", "webbridge3.c2w"), join=True),
        "xmpp": Pair(name="xmpp", endpoints=("xmpp",)),
        "turn": Pair(name="turn", endpoints=("turn",)),
        "loadbalancer": Pair(name="loadbalancer", endpoints=("loadbalancer",)),
        "trunk": Pair(name="trunk", endpoints=("trunk",)),
        "recorder": Pair(name="recorder", endpoints=("recorder",)),
        "streamer": Pair(name="streamer", endpoints=("streamer",)),
        "scheduler": Pair(name="scheduler", endpoints=("scheduler.https", "scheduler.c2w")),
        "h323_gateway": Pair(name="h323", endpoints=("h323_gateway",)),
    }
)
# Trust store -> the pair whose certificates, of all nodes of the cluster, it pins.
PINS: Mapping[str, str] = MappingProxyType(
    {
        "callbridge.trust.c2w": "webbridge",
        "callbridge.trust.cluster": "callbridge",
        "webbridge3.c2w.trust": "callbridge",
        "webbridge.trust": "callbridge",
        "recorder.trust": "callbridge",
        "streamer.trust": "callbridge",
        "scheduler.c2w.trust": "webbridge",
        "xmpp.cluster.trust": "xmpp",
    }
)
CA_FILE = "ca-bundle.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The private authority of the fleet: root, and issuing authority below it."""

    root: Authority
    issuing: Authority

    @classmethod
    async def make(cls, keys: KeySource, now: datetime) -> "Authorities":
        """Return new authorities, valid for ten years."""
        span = {"not_before": now - timedelta(days=400), "not_after": now + timedelta(days=3650)}
        root = pki.make_root(key=await keys.take(), wish=wish("Simulator Root CA"), **span)
        key = await keys.take()
        certificate = root.issue(
            public_key=key.public_key(), wish=wish("Simulator Issuing CA"), is_authority=True, **span
        )
        return cls(root=root, issuing=Authority(certificate=certificate, key=key))


def wish(common_name: str, *names: str) -> Wish:
    """Return a wish of O=Example and *common_name*, with DNS *names*."""
    san = f"subjectAltName:{','.join(names)}"
    return pki.read_attributes([f"CN:{common_name}", "O:Example", *([san] if names else [])])


def pairs_of(services: Sequence[str]) -> dict[str, Pair]:
    """Return the pairs that *services* need, by basename, each with all its endpoints."""
    pairs: dict[str, Pair] = {}
    for service in services:
        pair = PAIRS[service]
        known = pairs.get(pair.name)
        endpoints = (known.endpoints if known else ()) + pair.endpoints
        pairs[pair.name] = Pair(name=pair.name, endpoints=endpoints, join=pair.join)
    return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnisher:
    """Puts files and settings on the appliances of one cluster. *days_left* may be negative: already expired."""

    authorities: Authorities
    keys: KeySource
    services: tuple[str, ...]
    days_left: float
    pin_leaves: bool
    database: DatabaseShape
    now: datetime

    async def furnish(self, appliances: Sequence[Appliance]) -> None:
        """Give every appliance its pairs and trust stores, and start its services."""
        for appliance in appliances:
            for pair in pairs_of(self.services).values():
                await self._pair(appliance, pair)
        await self.database.furnish(appliances, self.keys, DOMAIN, self.now)
        for appliance in appliances:
            for pair in pairs_of(self.services).values():
                for endpoint in pair.endpoints:
                    self._settings(appliance, pair.name, endpoint)
            self._trusts(appliance, appliances)
            self._start(appliance)

    async def _pair(self, appliance: Appliance, pair: Pair) -> None:
        host = f"{appliance.name}.{DOMAIN}"
        certificate, key = await self._issue(
            self.authorities.root, wish(host, host, *([JOIN_NAME] if pair.join else []))
        )
        leaf, root = pki.to_pem(certificate), pki.to_pem(self.authorities.root.certificate)
        appliance.write(f"{pair.name}.key", pki.key_to_pem(key))
        tagged = any(appliance.services[name.partition(".")[0]].kind.tagged for name in pair.endpoints)
        # A load balancer's third file says whom it trusts, so its chain stands in the certificate file.
        appliance.write(f"{pair.name}.crt", leaf + root if tagged else leaf)
        if any(appliance.endpoint(name).kind.full_chain for name in pair.endpoints):
            appliance.write(f"{pair.name}-fullchain.crt", leaf + root)
        else:
            appliance.write(f"{pair.name}-bundle.crt", root)

    async def _issue(self, authority: Authority, content: Wish) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        key = await self.keys.take()
        ends = self.now + timedelta(days=self.days_left)
        certificate = authority.issue(
            public_key=key.public_key(), wish=content, not_before=ends - timedelta(days=365), not_after=ends
        )
        return certificate, key

    def _settings(self, appliance: Appliance, pair: str, name: str) -> None:
        endpoint = appliance.endpoint(name)
        endpoint.key = f"{pair}.key"
        endpoint.certificate = f"{pair}-fullchain.crt" if endpoint.kind.full_chain else f"{pair}.crt"
        endpoint.bundle = None if endpoint.kind.full_chain else f"{pair}-bundle.crt"
        endpoint.port = endpoint.kind.port

    def _trusts(self, appliance: Appliance, appliances: Sequence[Appliance]) -> None:
        root = pki.to_pem(self.authorities.root.certificate)
        appliance.write(CA_FILE, root)
        pairs = pairs_of(self.services)
        for service in appliance.services.values():
            for store in service.trusts:
                if store.endswith("c2w") and "webbridge3" not in self.services:
                    continue  # the Web Bridge of 2.9 has no C2W
                pair = (
                    None if store == "callbridge.trust.c2w" and "webbridge3" not in self.services else PINS.get(store)
                )
                if pair not in pairs or not any(e.certificate for e in service.endpoints.values()):
                    continue
                if not self.pin_leaves:
                    service.trusts[store] = CA_FILE
                    continue
                file = f"{pair}-trust.crt"
                appliance.write(file, b"".join(other.read(f"{pair}.crt") for other in appliances))
                service.trusts[store] = file
        if "callbridge" in self.services:
            appliance.services["callbridge"].trusts["tls.sip.trust"] = CA_FILE

    def _start(self, appliance: Appliance) -> None:
        for name in self.services:
            service = appliance.services[name]
            if service.kind.tagged:
                service.tag = "edge"
            if name == "xmpp":
                service.options["domain"] = DOMAIN
            if name == "turn":
                service.options |= {"username": "turnuser", "password": "turnsecret", "realm": DOMAIN}
            service.enabled = start(appliance, service, Script())
