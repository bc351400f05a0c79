"""Where messages may go: which hosts and networks, by CERTBRIDGE_WEBHOOK_HOSTS. Pure; nothing is resolved here.

An address that an administrator writes is sent to by our machine, which reaches what the administrator cannot (OWASP
ASVS 5.0, 1.3.6 and 13.2.4). So this machine itself and link-local addresses, where clouds keep credentials, are told
only when the setting names them. A name can change what it leads to: the address it has at that moment is looked at.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from workflows.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SETTING = "CERTBRIDGE_WEBHOOK_HOSTS"

_NETWORK = ipaddress.ip_network
_SPECIAL: tuple[Network, ...] = (
    *(_NETWORK(one) for one in ("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")),
    *(_NETWORK(one) for one in ("::1/128", "fe80::/10", "::/128", "ff00::/8")),
    # Clouds keep credentials at these too, which are not link-local: Alibaba's, Azure's, and Amazon's over IPv6.
    *(_NETWORK(one) for one in ("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128")),
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where messages may go. Without any hosts and networks: anywhere but to special addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, text: str) -> Self:
        """Return "chat.example.com, 10.0.0.0/8" as destinations. Raises: ValueError, with the word that is wrong."""
        hosts, networks = set(), []
        for word in text.replace(",", " ").split():
            try:
                networks.append(_NETWORK(word.strip("[]")))
            except ValueError:
                if not _HOST.fullmatch(word.lower()) or word[-1].isdigit():
                    raise ValueError(word) from None
                hosts.add(_plain(word))
        return cls(hosts=frozenset(hosts), networks=tuple(networks))

    def allow(self, host: str, address: Address) -> bool:
        """Return whether messages for *host* may go to *address*, which is what its name leads to now.

        A special address is allowed by a network that lies within the special one, as 127.0.0.0/8: neither 0.0.0.0/0
        nor a host's name opens it.
        """
        found = _real(address)
        special = next((one for one in _SPECIAL if found in one), None)
        if special is not None:
            return any(found in one and one.prefixlen >= special.prefixlen for one in self.networks)
        if not self.hosts and not self.networks:
            return True
        return _plain(host) in self.hosts or any(found in one for one in self.networks)

    def check(self, host: str) -> None:
        """Return unless *host*, as it is written, may not be told: the rest is seen when its name is resolved.

        Raises: InputError.
        """
        address = literal(host)
        if address is not None:
            fine = self.allow(host, address)
        else:
            # With networks a name may yet lead into one of them.
            fine = not self.hosts or bool(self.networks) or _plain(host) in self.hosts
        if not fine:
            raise InputError(
                "No webhook may go to that host.",
                remedy=f"Let whoever runs certbridge name it in {SETTING}; this machine and link-local addresses are "
                "told only when it names them.",
            )


def literal(host: str) -> Address | None:
    """Return *host* as an address, None when it is a name. "localhost" is 127.0.0.1, whatever a resolver says."""
    if _plain(host) == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Return whether *address* is one of the Internet."""
    found = _real(address)
    return found.is_global and not any(found in one for one in _SPECIAL)


def _real(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (0, address))[1]


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")
