"""The database of a cluster when the fleet starts: who is joined or connected, and the files they use."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator import pki
from simulator.appliance import Appliance
from simulator.database import Progress, Role
from simulator.database_certificates import CLIENT_NAME
from simulator.pki import Authority, KeySource, Wish

FILES = ("dbserver.key", "dbserver.crt", "dbclient.key", "dbclient.crt", "dbca.crt")
CA_KEY = "dbca.key"
_FIRST_JOINED = 3  # S1: three nodes are joined, further ones connect


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseShape:
    """How many nodes of a cluster are joined and connected, which joined one is the primary, and what they start with.

    *ready* False: no node is in a cluster yet, nor has files for it. *own_pairs*: each node has pairs of its own, under
    the same names. *days_left* may be negative: the pairs have expired, their authority has not.
    """

    joined: int
    connected: int
    primary: int = 0
    ready: bool = True
    own_pairs: bool = False
    days_left: float = 12.0

    @classmethod
    def usual(cls, nodes: int) -> tuple[int, int]:
        """Return (joined, connected) of a cluster of *nodes*: the first three are joined; one alone is not."""
        joined = 0 if nodes == 1 else min(nodes, _FIRST_JOINED)
        return joined, 0 if joined == 0 else nodes - joined

    def role(self, index: int) -> str:
        """Return the role of node *index* in the words of the inventory: joined, connected or none."""
        if index < self.joined:
            return "joined"
        return "connected" if index < self.joined + self.connected else "none"

    async def furnish(self, appliances: Sequence[Appliance], keys: KeySource, domain: str, now: datetime) -> None:
        """Give the nodes of a cluster the files of the database, signed by an authority of its own, and their roles."""
        for index, appliance in enumerate(appliances):
            appliance.database_role = self.role(index)
        if not (self.joined and self.ready):
            return
        key = await keys.take()
        span = {"not_before": now - timedelta(days=400), "not_after": now + timedelta(days=1700)}
        authority = pki.make_root(key=key, wish=_wish("dbca"), **span)
        issue = _issuer(authority, keys, now + timedelta(days=self.days_left))
        joined = [appliance.name for appliance in appliances if appliance.database_role == "joined"]
        content = server_wish(appliances[0].cluster, joined, domain)
        server = await issue(content)
        client = await issue(_wish(CLIENT_NAME))
        for appliance in (a for a in appliances if a.database_role != "none"):
            if self.own_pairs:
                server, client = await issue(content), await issue(_wish(CLIENT_NAME))
            contents = (*_pems(*server), *_pems(*client), pki.to_pem(authority.certificate))
            files = tuple(zip(FILES, contents, strict=True))[0 if appliance.database_role == "joined" else 2 :]
            for file, data in files:
                appliance.write(file, data)
            self._enter(appliance, dict(files), appliances[self.primary])
        appliances[self.primary].write(CA_KEY, pki.key_to_pem(key))

    def _enter(self, appliance: Appliance, files: dict[str, bytes], primary: Appliance) -> None:
        own, address = appliance.database, primary.address
        own.interface, own.files, own.taken = "a", tuple(files), files
        own.progress = Progress.SUCCESS
        if appliance is primary:
            own.last_command = "initialize"
            own.enter(Role.PRIMARY, address)
        elif appliance.database_role == "joined":
            own.last_command = f"join {address}"
            own.enter(Role.REPLICA, address)
            own.data, own.joined_from, own.borrowed = primary.database.data, address, True
        else:
            own.last_command = f"connect {address}"
            own.enter(Role.CONNECTED, address)
            own.borrowed = True


def server_name(cluster: str, domain: str) -> str:
    """Return the CN of the database's server certificate, as the inventory of the fleet asks for it too."""
    return f"db.{cluster}.{domain}"


def server_wish(cluster: str, joined: Sequence[str], domain: str) -> Wish:
    """Return what the server certificate of a cluster says: its own name, and the name of each joined node."""
    name = server_name(cluster, domain)
    return _wish(name, name, *(f"{node}.{domain}" for node in joined))


def _wish(common_name: str, *names: str) -> Wish:
    san = f"subjectAltName:{','.join(names)}"
    return pki.read_attributes([f"CN:{common_name}", "O:Example", *([san] if names else [])])


type_of_pair = tuple[x509.Certificate, rsa.RSAPrivateKey]


def _issuer(authority: Authority, keys: KeySource, ends: datetime) -> Callable[[Wish], Awaitable[type_of_pair]]:
    async def issue(content: Wish) -> type_of_pair:
        key = await keys.take()
        certificate = authority.issue(
            public_key=key.public_key(), wish=content, not_before=ends - timedelta(days=365), not_after=ends
        )
        return certificate, key

    return issue


def _pems(certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> tuple[bytes, bytes]:
    return pki.key_to_pem(key), pki.to_pem(certificate)
