"""What is told about a fleet: the inventory file, the state of a node as JSON, the links that trust stores forbid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography import x509

from simulator import pki
from simulator.appliance import Appliance
from simulator.database_layout import server_name
from simulator.database_status import word
from simulator.layout import DOMAIN, JOIN_NAME, pairs_of
from simulator.server import SSH_PORT
from simulator.services import Running, Service

_NOT_IN_INVENTORY = frozenset({"trunk", "h323_gateway"})  # the inventory does not know these services


def inventory(*, release: str, services: Sequence[str], clusters: Mapping[str, Sequence[Appliance]]) -> dict[str, Any]:
    """Return the content of fleet.yaml, which the certificates of a new fleet fit; paths in it are relative to it."""
    return {
        "fleet": "demo",
        "release": release,
        "four_eyes": False,
        "go_gate": True,
        "defaults": {
            "credential": "cms",
            "port": SSH_PORT,
            "interface": "a",
            "key": "node",
            "files": "fresh",
            "issuer": "local",
        },
        "issuers": {
            "local": {
                "kind": "local",
                "certificate": "ca/issuing.crt",
                "key": "ca/issuing.key",
                "chain": ["ca/issuing.crt", "ca/ca.crt"],
            }
        },
        "clusters": [
            _cluster(name, nodes, services) | (_database(name) if _has_database(nodes) else {})
            for name, nodes in clusters.items()
        ],
    }


def _cluster(name: str, appliances: Sequence[Appliance], services: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "nodes": [_node(appliance, services) for appliance in appliances],
        "certificates": [
            {
                "name": pair.name,
                "per": "node",
                "services": [endpoint for endpoint in pair.endpoints if endpoint not in _NOT_IN_INVENTORY],
                "subject": {"CN": f"{{node}}.{DOMAIN}", "O": "Example"},
                "subject_alt_names": {"dns": [f"{{node}}.{DOMAIN}", *([JOIN_NAME] if pair.join else [])]},
            }
            for pair in pairs_of(services).values()
            if not _NOT_IN_INVENTORY.issuperset(pair.endpoints)
        ],
    }


def _has_database(appliances: Iterable[Appliance]) -> bool:
    return any(appliance.database_role == "joined" for appliance in appliances)


def _database(cluster: str) -> dict[str, Any]:
    server = server_name(cluster, DOMAIN)
    return {
        "database_cluster": {
            "ca": {"subject": {"CN": f"{cluster} database CA", "O": "Example"}},
            "server": {
                "subject": {"CN": server, "O": "Example"},
                "subject_alt_names": {"dns": [server, f"{{node}}.{DOMAIN}"]},
            },
        }
    }


def state(appliance: Appliance) -> dict[str, Any]:
    """Return the state of an appliance as JSON: host name, release, files, services with settings and what they serve.

    {"hostname": "cmscore1", "release": "3.9", "files": ["callbridge.key", ...], "services": {"webadmin":
      {"enabled": True, "up": True, "trusts": {}, "endpoints": {"webadmin":
        {"key": "callbridge.key", "certificate": "callbridge.crt", "bundle": "callbridge-bundle.crt", "port": 8443,
         "serves": {"key_file": ..., "certificate_file": ..., "fingerprint": <SHA-256 of the leaf>,
                    "not_after": <ISO 8601>, "chain": 2}}}}},
     "database": {"role": "replica", "status": "Enabled", "primary": "127.1.2.1", "interface": "a", "files": [...],
                  "data": <fingerprint of the data>, "last_command": "join 127.1.2.1", "progress": "Success",
                  "error": None, "syncing": False, "joined_from": "127.1.2.1", "callbridge_restarts": 1}}
    """
    return {
        "hostname": appliance.hostname,
        "release": str(appliance.release),
        "files": list(appliance.files),
        "services": {name: _service_state(service) for name, service in appliance.services.items()},
        "database": appliance.database.to_json(word(appliance)),
    }


def broken_links(appliances: Iterable[Appliance]) -> list[str]:
    """Return the C2W links between Call Bridges and Web Bridges of a cluster that the trust stores in effect forbid.

    Each as "cmscore1 -> cmscore2": the Call Bridge of the first to the Web Bridge 3 of the second.
    """
    everyone = tuple(appliances)
    return [
        f"{caller.name} -> {called.name}"
        for caller in everyone
        for called in everyone
        if caller.cluster == called.cluster and not _link_up(caller, called)
    ]


def _node(appliance: Appliance, services: Sequence[str]) -> dict[str, Any]:
    role = appliance.database_role
    database = {"database": role} | ({} if role == "none" else {"database_interface": "a"})
    names = [name for pair in pairs_of(services).values() for name in pair.endpoints]
    ports = {name: appliance.endpoint(name).port for name in names}
    proof = {name: {"port": port} for name, port in ports.items() if port is not None}
    return {"name": appliance.name, "address": appliance.address, **database, "proof": proof}


def _service_state(service: Service) -> dict[str, Any]:
    return {
        "enabled": service.enabled,
        "up": service.up,
        "trusts": dict(service.trusts),
        "endpoints": {
            name: {
                "key": endpoint.key,
                "certificate": endpoint.certificate,
                "bundle": endpoint.bundle,
                "port": endpoint.port,
                "serves": _served(endpoint.running),
            }
            for name, endpoint in service.endpoints.items()
        },
    }


def _served(running: Running | None) -> dict[str, Any] | None:
    if running is None:
        return None
    leaf = x509.load_pem_x509_certificate(running.chain[0])
    return {
        "key_file": running.key_file,
        "certificate_file": running.certificate_file,
        "fingerprint": leaf.fingerprint(pki.SHA256).hex(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "chain": len(running.chain),
    }


def _link_up(caller: Appliance, called: Appliance) -> bool:
    """Tell whether the Call Bridge of *caller* and the Web Bridge 3 of *called* accept each other's certificate."""
    if "webbridge3" not in called.services or called.endpoint("webbridge3.c2w").certificate is None:
        return True
    client, server = caller.endpoint("callbridge").running, called.endpoint("webbridge3.c2w").running
    if client is None or server is None:
        return False
    trusted_server = caller.services["callbridge"].applied_trusts.get("callbridge.trust.c2w")
    return _trusts(trusted_server, server.chain) and _trusts(server.trust, client.chain)


def _trusts(store: bytes | None, chain: tuple[bytes, ...]) -> bool:
    """Tell whether *store* holds the leaf of *chain*, or leads it to a root."""
    trusted = pki.load_certificates(store or b"")
    presented = [x509.load_pem_x509_certificate(pem) for pem in chain]
    if presented[0] in trusted:
        return True
    anchors = [certificate for certificate in trusted if certificate.subject == certificate.issuer]
    return pki.chain_problem(presented[0], [*presented[1:], *trusted], None) is None and any(
        anchor in trusted for anchor in (presented[-1], *anchors)
    )
