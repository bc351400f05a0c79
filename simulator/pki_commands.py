"""The `pki` commands (MMP reference 2)."""

from collections.abc import Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from simulator import inspection, pki
from simulator.appliance import Appliance, Command, CommandFailed
from simulator.console import Console

_LISTED = (".key", ".crt", ".cer", ".pem", ".der", ".csr", ".p12")


def user_files(appliance: Appliance) -> list[str]:
    """Return the names that `pki list` shows, in order of creation (S6)."""
    return [name for name in appliance.files if name.endswith(_LISTED)]


async def _list(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(appliance.say("pki.list") + "".join(f"{name}\n" for name in user_files(appliance)))


async def _inspect(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    file = appliance.files.get(arguments[0])
    if file is None:
        raise CommandFailed(appliance.say("pki.inspect-missing"))
    console.write(appliance.say("pki.inspect-found") + inspection.describe(file.data, appliance.texts))


async def _csr(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    name, wish = _new_pair(appliance, arguments)
    key = await appliance.keys.take()
    console.write(appliance.say("pki.dots"))
    _replace_key(appliance, name, key)
    appliance.write(f"{name}.csr", pki.to_pem(pki.make_request(key, wish)))
    console.write(appliance.say("pki.csr", name=name))


async def _selfsigned(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    name, wish = _new_pair(appliance, arguments)
    key = await appliance.keys.take()
    console.write(appliance.say("pki.dots"))
    _replace_key(appliance, name, key)
    appliance.write(f"{name}.crt", pki.to_pem(pki.make_selfsigned(key=key, wish=wish, now=appliance.now())))
    console.write(appliance.say("pki.selfsigned", name=name))


def _new_pair(appliance: Appliance, arguments: Sequence[str]) -> tuple[str, pki.Wish]:
    name, *attributes = arguments
    if not pki.BASENAME.fullmatch(name):
        raise CommandFailed(appliance.say("pki.bad-name", name=name))
    try:
        wish = pki.read_attributes(attributes)
    except pki.AttributeRejected as rejected:
        raise CommandFailed(appliance.say("pki.bad-attribute", attribute=rejected)) from rejected
    if not wish.common_name:
        raise CommandFailed(appliance.say("pki.no-cn"))
    return name, wish


def _replace_key(appliance: Appliance, name: str, key: rsa.RSAPrivateKey) -> None:
    """Store the new key; a service that is running with a key file of this name breaks at once (base document)."""
    appliance.write(f"{name}.key", pki.key_to_pem(key))
    for endpoint in appliance.endpoints():
        if endpoint.running is not None and endpoint.running.key_file == f"{name}.key":
            endpoint.running = None


async def _sign(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    name, authority_name = arguments
    request = pki.load_request(appliance.read(f"{name}.csr"))
    if request is None:
        raise CommandFailed(appliance.say("pki.not-a-csr", file=f"{name}.csr"))
    key = _key(appliance, f"{authority_name}.key")
    authority = pki.Authority(certificate=_certificates(appliance, f"{authority_name}.crt")[0], key=key)
    try:
        names = tuple(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = ()
    public_key = request.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise CommandFailed(appliance.say("pki.not-a-csr", file=f"{name}.csr"))
    now = appliance.now()
    certificate = authority.issue(
        public_key=public_key,
        wish=pki.Wish(subject=request.subject, names=names),
        not_before=now - timedelta(hours=1),
        not_after=min(now + timedelta(days=1825), authority.certificate.not_valid_after_utc),
    )
    appliance.write(f"{name}.crt", pki.to_pem(certificate))
    console.write(appliance.say("pki.sign", name=name))


async def _match(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    key = _key(appliance, arguments[0])
    certificate = _certificates(appliance, arguments[1])[0]
    if not pki.same_key(key, certificate):
        raise CommandFailed(appliance.say("pki.no-match"))
    console.write(appliance.say("pki.match"))


async def _verify(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    leaf = _certificates(appliance, arguments[0])[0]
    pool = [certificate for file in arguments[1:] for certificate in _certificates(appliance, file)]
    problem = pki.chain_problem(leaf, pool, appliance.now())
    if problem is not None:
        reason = appliance.say("pki.verify-reason", reason=problem)
        raise CommandFailed(appliance.say("pki.no-verify") + reason)
    console.write(appliance.say("pki.verify"))


async def _unlock(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    data = appliance.read(arguments[0])
    console.write(appliance.say("pki.pass-phrase"))
    pass_phrase = await console.secret()
    try:
        key = pki.load_key(data, pass_phrase.encode())
    except TypeError:  # the key was not locked at all
        key = pki.load_key(data)
    if key is None:
        raise CommandFailed(appliance.say("pki.wrong-pass-phrase"))
    appliance.write(arguments[0], pki.key_to_pem(key))
    console.write(appliance.say("pki.unlocked", file=arguments[0]))


async def _pkcs12(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    data = appliance.read(arguments[0])
    name = arguments[0].removesuffix(".p12")
    console.write(appliance.say("pki.pass-phrase"))
    pass_phrase = await console.secret()
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(data, pass_phrase.encode() or None)
    except ValueError as problem:
        raise CommandFailed(appliance.say("pki.wrong-pass-phrase")) from problem
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or certificate is None:
        raise CommandFailed(appliance.say("pki.not-a-key", file=arguments[0]))
    appliance.write(f"{name}.key", pki.key_to_pem(key))
    appliance.write(f"{name}.crt", pki.to_pem(certificate))
    console.write(appliance.say("pki.pkcs12", name=name))


def _key(appliance: Appliance, file: str) -> pki.type_of_key:
    try:
        key = pki.load_key(appliance.read(file))
    except TypeError:
        key = None
    if key is None:
        raise CommandFailed(appliance.say("pki.not-a-key", file=file))
    return key


def _certificates(appliance: Appliance, file: str) -> list[x509.Certificate]:
    certificates = pki.load_certificates(appliance.read(file))
    if not certificates:
        raise CommandFailed(appliance.say("pki.not-a-certificate", file=file))
    return certificates


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


_CSR = "<key/cert basename> <CN:value> [OU:<value>] [O:<value>] [ST:<value>] [C:<value>] [subjectAltName:<value>]"

COMMANDS = (
    Command(words=("pki",), run=_list),
    Command(words=("pki", "list"), run=_list),
    Command(words=("pki", "inspect"), run=_inspect, least=1, most=1, usage="<filename>"),
    Command(words=("pki", "csr"), run=_csr, least=1, most=None, usage=_CSR),
    Command(words=("pki", "selfsigned"), run=_selfsigned, least=1, most=None, usage=_CSR),
    Command(words=("pki", "sign"), run=_sign, least=2, most=2, usage="<csr/cert basename> <CA key/cert basename>"),
    Command(words=("pki", "match"), run=_match, least=2, most=2, usage="<key> <certificate>"),
    Command(words=("pki", "verify"), run=_verify, least=2, most=3, usage="<cert> <cert bundle/CA cert> [<CA cert>]"),
    Command(words=("pki", "unlock"), run=_unlock, least=1, most=1, usage="<key>"),
    Command(words=("pki", "pkcs12-to-ssl"), run=_pkcs12, least=1, most=1, usage="<name>.p12"),
)
