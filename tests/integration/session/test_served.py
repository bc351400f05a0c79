"""What a port serves is read whole, also from servers that then refuse us."""

import asyncio
import functools
import re
import ssl
import subprocess

import pytest
import tls_servers
from cryptography.hazmat.primitives.serialization import Encoding
from tls_servers import make_pair, server_context, serving

from workers.served import Served, look
from workflows.errors import Unreachable


@pytest.fixture
def chain():
    """Leaf, intermediate and root."""
    root = make_pair("Test Root CA")
    intermediate = make_pair("Test Issuing CA", root)
    return [make_pair("cms1.example.com", intermediate), intermediate, root]


def seen(context, *, talk=None, probe="tls", server_name="cms1.example.com") -> Served:
    async def go() -> Served:
        async with serving(context, talk) as port:
            return await look("127.0.0.1", port, probe=probe, server_name=server_name, timeout_s=10)

    return asyncio.run(go())


def der(chain):
    return tuple(pair.der for pair in chain)


def test_whole_chain_is_read_in_the_order_sent(tmp_path, chain):
    """Leaf, intermediate and root come back as they were sent."""
    assert seen(server_context(tmp_path, chain)) == Served(chain=der(chain), note="")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_server_that_wants_a_client_certificate_still_shows_its_chain(tmp_path, chain, version):
    """A port with mutual TLS (c2w, database) can be proved although it refuses us."""
    context = server_context(tmp_path, chain, client_ca=chain[-1])
    context.minimum_version = context.maximum_version = version
    found = seen(context)
    assert found.chain == der(chain)
    # In TLS 1.3 the refusal comes only after our side of the handshake is over.
    assert bool(found.note) is (version is ssl.TLSVersion.TLSv1_2)


def test_expired_certificate_is_read(tmp_path):
    """What has run out is what a renewal looks for."""
    pair = make_pair("old.example.com", days=-3)
    found = seen(server_context(tmp_path, [pair]), server_name="other.example.com")
    assert (found.leaf, found.note) == (pair.der, "")


def test_weak_key_is_read(tmp_path):
    """RSA 1024 is below OpenSSL's usual level, and must be seen to be replaced."""
    pair = make_pair("weak.example.com", rsa_bits=1024)
    assert seen(server_context(tmp_path, [pair])).leaf == pair.der


@pytest.mark.parametrize("server_name", ["", "127.0.0.1", "::1"])
def test_address_or_no_name_sends_no_server_name(tmp_path, chain, server_name):
    """SNI holds host names only; the probe works without."""
    context = server_context(tmp_path, chain)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    assert (seen(context, server_name=server_name).leaf, names) == (chain[0].der, [None])


def test_server_name_is_sent(tmp_path, chain):
    """A server of many names gets to know which one is asked for."""
    context = server_context(tmp_path, chain)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    seen(context, server_name="join.example.com")
    assert names == ["join.example.com"]


@pytest.mark.parametrize("piece", [1, 40, 4096])
def test_xmpp_is_asked_for_tls_first(tmp_path, chain, piece):
    """XMPP begins in the clear; the chain is read after <proceed/>, however the stream comes in."""
    talk = functools.partial(tls_servers.xmpp, piece=piece)
    found = seen(server_context(tmp_path, chain), talk=talk, probe="starttls-xmpp")
    assert found == Served(chain=der(chain), note="")


def test_postgres_is_asked_for_tls_first(tmp_path, chain):
    """PostgreSQL begins with SSLRequest and the byte S."""
    found = seen(server_context(tmp_path, chain), talk=tls_servers.postgres(b"S"), probe="starttls-postgres")
    assert found == Served(chain=der(chain), note="")


@pytest.mark.parametrize(
    ("talk", "probe", "why"),
    [
        (tls_servers.postgres(b"N"), "starttls-postgres", "does not speak TLS"),
        (tls_servers.xmpp_without_tls, "starttls-xmpp", "offers no STARTTLS"),
    ],
)
def test_server_without_tls_is_told_as_such(talk, probe, why):
    """A database or XMPP server that has no TLS cannot be proved."""
    with pytest.raises(Unreachable, match=why):
        seen(None, talk=talk, probe=probe)


def test_port_that_speaks_something_else_is_unreachable():
    """An SSH banner is no TLS."""

    async def banner(_reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        return True

    with pytest.raises(Unreachable, match=r"wrong version|record layer|packet length"):
        seen(None, talk=banner)


def test_closed_port_is_unreachable():
    """Nobody listens: address and port are told."""

    async def go():
        async with serving(None) as port:
            pass
        await look("127.0.0.1", port, probe="tls", timeout_s=5)

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ cannot be looked at"):
        asyncio.run(go())


def test_server_that_hangs_up_is_unreachable():
    """A connection closed before the certificate is no proof of anything."""

    async def hang_up(_reader, _writer):
        return False

    with pytest.raises(Unreachable):
        seen(None, talk=hang_up)


def test_silent_server_is_given_up_after_the_time():
    """A server that says nothing does not hold up a run."""

    async def silent(reader, _writer):
        await reader.read()
        return False

    async def go():
        async with serving(None, silent) as port:
            await look("127.0.0.1", port, probe="tls", timeout_s=0.1)

    with pytest.raises(Unreachable, match=r"did not answer within 0\.1 s"):
        asyncio.run(go())


@pytest.mark.needs_openssl
@pytest.mark.parametrize("probe", ["tls", "starttls-xmpp", "starttls-postgres"])
def test_openssl_sees_the_same_chain(tmp_path, chain, probe):
    """`openssl s_client -showcerts` is the second witness."""
    context = server_context(tmp_path, chain)
    talk = {"tls": None, "starttls-xmpp": tls_servers.xmpp, "starttls-postgres": tls_servers.postgres(b"S")}[probe]
    options = {"tls": [], "starttls-xmpp": ["-starttls", "xmpp"], "starttls-postgres": ["-starttls", "postgres"]}[probe]

    async def go():
        async with serving(context, talk) as port:
            ours = await look("127.0.0.1", port, probe=probe, server_name="cms1.example.com", timeout_s=10)
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts", *options]
            if probe == "starttls-xmpp":
                command += ["-xmpphost", "cms1.example.com"]
            theirs = await asyncio.to_thread(
                subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
            )
            return ours, theirs.stdout.decode()

    ours, theirs = asyncio.run(go())
    pems = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", theirs, re.DOTALL)
    # s_client prints the leaf once more after the chain.
    assert tuple(ssl.PEM_cert_to_DER_cert(pem) for pem in pems[:3]) == ours.chain


def test_every_port_of_a_simulated_server_is_read(fleet):
    """Webadmin, call bridge, web bridge, c2w and TURN of a server: what is looked at is what it serves."""
    for service in fleet.state("cmscore1")["services"].values():
        for name, endpoint in service["endpoints"].items():
            if endpoint["serves"] is None:
                continue
            found = asyncio.run(look(fleet.address("cmscore1"), endpoint["port"], probe="tls", timeout_s=10))
            leaf = fleet.served_leaf("cmscore1", name)
            assert leaf is not None
            assert (found.leaf, len(found.chain)) == (leaf.public_bytes(Encoding.DER), endpoint["serves"]["chain"])
