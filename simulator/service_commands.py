"""The commands of the services: `certs`, `listen`, `trust`, `enable`, `disable`, `restart` and the bare status.

`certs`, `listen` and `trust` store settings only and print nothing (MMP reference 1.4); a service reads them when it
starts. Whether `enable` on a service that is already on reads them again is not known; here it does not, so that
software which forgets `disable` is found out.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from simulator import pki
from simulator.appliance import Appliance, Command, CommandFailed
from simulator.console import Console
from simulator.faults import FaultKind
from simulator.releases import Release
from simulator.services import Endpoint, EndpointKind, Running, Service, ServiceKind
from simulator.status import render, status_values


def commands(services: Mapping[str, Service]) -> tuple[Command, ...]:
    """Return the commands of *services*."""
    return tuple(command for service in services.values() for command in _commands(service.kind))


def _commands(kind: ServiceKind) -> Iterable[Command]:
    name = kind.name
    yield Command(words=(name,), run=partial(_status, name, name))
    yield Command(words=(name, "restart"), run=partial(_restart, name), most=1 if kind.tagged else 0)
    if not kind.always_on:
        tags = 1 if kind.tagged else 0
        yield Command(words=(name, "enable"), run=partial(_enable, name), least=tags, most=tags, usage="<tag>" * tags)
        yield Command(words=(name, "disable"), run=partial(_disable, name), least=tags, most=tags, usage="<tag>" * tags)
    for endpoint in kind.endpoints:
        if kind.tagged:
            yield Command(
                words=(name, "auth"),
                run=partial(_auth, endpoint),
                least=3,
                most=4,
                usage="<tag> <key-file> <crt-file> [<trust-bundle>]",
            )
            continue
        usage = "<key-file> <crt-file>" + ("" if endpoint.full_chain else " [<cert-bundle>]")
        most = 2 if endpoint.full_chain else 3
        yield Command(words=(*endpoint.words, "certs"), run=partial(_certs, endpoint), least=1, most=most, usage=usage)
        yield Command(
            words=(*endpoint.words, "listen"), run=partial(_listen, endpoint), least=1, most=4, usage="<if> [<port>]"
        )
    for store, words in kind.trusts.items():
        yield Command(words=words, run=partial(_trust, name, store), least=1, most=1, usage="<cert-bundle|none>")
    yield from _EXTRA.get(name, ())


# settings


async def _certs(kind: EndpointKind, appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    endpoint = appliance.endpoint(kind.name)
    if arguments[0] == "none":
        endpoint.key = endpoint.certificate = endpoint.bundle = None
        return
    if len(arguments) < 2:
        raise CommandFailed(appliance.say("shell.usage", usage=" ".join((*kind.words, "certs <key-file> <crt-file>"))))
    for file in arguments:
        appliance.read(file)
    endpoint.key, endpoint.certificate = arguments[0], arguments[1]
    endpoint.bundle = arguments[2] if len(arguments) > 2 else None


async def _auth(kind: EndpointKind, appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    _tagged(appliance, kind.name, arguments[0])
    await _certs(kind, appliance, console, arguments[1:])


async def _listen(kind: EndpointKind, appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    """Take `a 8443`, `a:9443 b:9443`, `a`, or the SIP form `a <tcp-port|none> <tls-port|none>`; the first counts."""
    endpoint = appliance.endpoint(kind.name)
    interface, _colon, port = arguments[0].partition(":")
    if not port and len(arguments) > 1:
        port = arguments[2] if kind.words[-1] == "sip" and len(arguments) > 2 else arguments[1]
    if port and port != "none" and not (port.isdecimal() and 0 < int(port) < 65536):
        raise CommandFailed(appliance.say("service.bad-port", port=port))
    endpoint.interface = interface
    if port:
        endpoint.port = None if port == "none" else int(port)


async def _trust(name: str, store: str, appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    file = arguments[0]
    if file != "none":
        appliance.read(file)
    appliance.services[name].trusts[store] = None if file == "none" else file


async def _status(name: str, layout: str, appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    service = appliance.services[name]
    if name in {"recorder", "streamer"} and appliance.release < Release(3, 0):
        layout = f"{layout} 2"
    extra = {"address": appliance.address}
    for release in ("3.0", "3.8", "3.9"):
        extra[f"since {release}"] = "yes" if appliance.release >= Release.parse(release) else "none"
    defaults = {"username": "none", "password": "none", "realm": "none", "domain": "none"}
    modes = {"ucm verify": "disabled", "imps verify": "disabled", "tls verify": "disabled"}
    console.write(render(layout, defaults | modes | status_values(service, extra)))


# starting and stopping


async def _enable(name: str, appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    service = _named(appliance, name, arguments)
    if service.up:
        text, good = _checks(appliance, service)
        console.write(text + (appliance.say(f"enabled.{name}") if good else ""))
        if not good:
            raise CommandFailed("")
        return
    service.enabled = start(appliance, service, console)


async def _disable(name: str, appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    service = _named(appliance, name, arguments)
    service.enabled = False
    stop(service)
    console.write(appliance.say("service.disabled"))


async def _restart(name: str, appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    service = _named(appliance, name, arguments)
    if not service.enabled:
        raise CommandFailed(appliance.say("service.not-enabled", title=service.kind.title))
    stop(service)
    start(appliance, service, console)


def _named(appliance: Appliance, name: str, arguments: Sequence[str]) -> Service:
    return _tagged(appliance, name, arguments[0]) if arguments else appliance.services[name]


def _tagged(appliance: Appliance, name: str, tag: str) -> Service:
    service = appliance.services[name]
    if service.tag != tag:
        raise CommandFailed(appliance.say("service.no-tag", tag=tag))
    return service


def stop(service: Service) -> None:
    """Stop all endpoints of *service*."""
    for endpoint in service.endpoints.values():
        endpoint.running = None


def start(appliance: Appliance, service: Service, console: Console) -> bool:
    """Check the settings of *service*, print the result of each check, and start it if all are good; return whether."""
    text, good = _checks(appliance, service)
    console.write(text)
    if not good:
        raise CommandFailed("")
    service.applied_trusts = {store: _trusted(appliance, file) for store, file in service.trusts.items()}
    for name, endpoint in service.endpoints.items():
        fresh = _running(appliance, service, endpoint)
        if (
            appliance.faults.use({FaultKind.STALE_LISTENER}, appliance.name, name)
            and endpoint.served_before is not None
        ):
            endpoint.running = endpoint.served_before
        else:
            endpoint.running = endpoint.served_before = fresh
            endpoint.running_port = endpoint.port
    if service.kind.name == "callbridge":
        appliance.database.written()
    console.write(appliance.say(f"enabled.{service.kind.name}"))
    return True


def _trusted(appliance: Appliance, file: str | None) -> bytes | None:
    stored = None if file is None else appliance.files.get(file)
    return None if stored is None else stored.data


def _running(appliance: Appliance, service: Service, endpoint: Endpoint) -> Running | None:
    if endpoint.key is None or endpoint.certificate is None:
        return None
    chain = pki.load_certificates(appliance.read(endpoint.certificate))
    # The third file of a load balancer or trunk says whom it trusts (MMP reference 11); it is no part of its own chain.
    if endpoint.bundle is not None and not service.kind.tagged:
        chain += [c for c in pki.load_certificates(appliance.read(endpoint.bundle)) if c not in chain]
    trust = endpoint.kind.trust
    return Running(
        key_file=endpoint.key,
        certificate_file=endpoint.certificate,
        key=appliance.read(endpoint.key),
        chain=tuple(pki.to_pem(certificate) for certificate in chain),
        trust=None if trust is None else service.applied_trusts.get(trust),
    )


def _checks(appliance: Appliance, service: Service) -> tuple[str, bool]:
    """Return what `enable` or `restart` prints about the settings of *service*, and whether all of it is good."""
    name = service.kind.name
    lines = [appliance.say(f"check.{name}")] if name in {"webadmin", "callbridge", "xmpp"} else []
    good = True
    for endpoint in service.endpoints.values():
        text, fine = _check(appliance, service, endpoint)
        lines.append(text)
        good = good and fine
    return "".join(lines), good


def _check(appliance: Appliance, service: Service, endpoint: Endpoint) -> tuple[str, bool]:
    kind = endpoint.kind
    if endpoint.key is None or endpoint.certificate is None:
        if kind.optional and endpoint.port is None:
            return "", True
        incomplete = appliance.say("check.incomplete", title=service.kind.title)
        return appliance.say("check.no-certs") + incomplete, False
    for file in (endpoint.key, endpoint.certificate, endpoint.bundle):
        if file is not None and file not in appliance.files:
            return appliance.say("check.unreadable", file=file), False
    try:
        key = pki.load_key(appliance.read(endpoint.key))
    except TypeError:  # locked by a pass phrase
        key = None
    chain_data = appliance.read(endpoint.certificate)
    chain = pki.load_certificates(chain_data)
    if key is None or not chain:
        return appliance.say("check.unreadable", file=endpoint.certificate if key else endpoint.key), False
    label = kind.label
    if not pki.same_key(key, chain[0]):
        return appliance.say("check.labelled-no-pair" if label else "check.no-pair", label=label), False
    text = appliance.say("check.labelled-pair" if label else "check.pair", label=label)
    if kind.full_chain:
        complete = pki.ordered_full_chain(chain_data)
        return text + appliance.say("check.full-chain" if complete else "check.no-full-chain", label=label), complete
    if endpoint.bundle is not None and not service.kind.tagged:
        pool = chain[1:] + pki.load_certificates(appliance.read(endpoint.bundle))
        verified = pki.chain_problem(chain[0], pool, None) is None
        return text + appliance.say("check.bundle" if verified else "check.no-bundle"), verified
    return text, True


# commands that only one service has


async def _turn_tls(appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    if arguments[0] != "none" and not arguments[0].isdecimal():
        raise CommandFailed(appliance.say("service.bad-port", port=arguments[0]))
    appliance.endpoint("turn").port = None if arguments[0] == "none" else int(arguments[0])


async def _turn_credentials(appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    username, password, realm = arguments
    appliance.services["turn"].options |= {"username": username, "password": password, "realm": realm}


async def _verify_mode(service: str, option: str, appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    if arguments[0] not in {"enable", "disable"}:
        raise CommandFailed(appliance.say("shell.usage", usage=f"{option} <enable|disable>"))
    appliance.services[service].options[option] = f"{arguments[0]}d"


async def _create(name: str, appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    appliance.services[name].tag = arguments[0]


async def _xmpp_domain(appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    appliance.services["xmpp"].options["domain"] = arguments[0]


def _verify(service: str, *words: str) -> Command:
    option = f"{words[-2]} verify" if words[0] == "callbridge" else "tls verify"
    return Command(words=words, run=partial(_verify_mode, service, option), least=1, most=1, usage="<enable|disable>")


_EXTRA: Mapping[str, tuple[Command, ...]] = {
    "webadmin": (Command(words=("webadmin", "status"), run=partial(_status, "webadmin", "webadmin")),),
    "callbridge": (
        _verify("callbridge", "callbridge", "ucm", "verify"),
        _verify("callbridge", "callbridge", "imps", "verify"),
        _verify("callbridge", "tls", "sip", "verify"),
        Command(words=("tls", "sip"), run=partial(_status, "callbridge", "tls sip")),
    ),
    "turn": (
        Command(words=("turn", "tls"), run=_turn_tls, least=1, most=1, usage="<port|none>"),
        Command(
            words=("turn", "credentials"),
            run=_turn_credentials,
            least=3,
            most=3,
            usage="<username> <password> <realm>",
            secret_arguments=(1,),
        ),
    ),
    "xmpp": (
        Command(words=("xmpp", "status"), run=partial(_status, "xmpp", "xmpp")),
        Command(words=("xmpp", "domain"), run=_xmpp_domain, least=1, most=1, usage="<domain>"),
    ),
    "loadbalancer": (
        Command(words=("loadbalancer", "create"), run=partial(_create, "loadbalancer"), least=1, most=1, usage="<tag>"),
        Command(words=("loadbalancer", "list"), run=partial(_status, "loadbalancer", "loadbalancer"), most=1),
    ),
    "trunk": (
        Command(
            words=("trunk", "create"), run=partial(_create, "trunk"), least=1, most=2, usage="<tag> <service>/<port>"
        ),
        Command(words=("trunk", "list"), run=partial(_status, "trunk", "trunk"), most=1),
    ),
}
