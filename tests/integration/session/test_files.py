"""Files over real SFTP: proved uploads, guarded keys, translated errors."""

import hashlib
import itertools

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from workers.files import RemoteFile, Uploaded, holds_private_key
from workflows.errors import CommandRejected, KeyGuarded, NotInPlan, OutcomeUnknown, TransferMismatch
from workflows.mmp.commands import PkiList
from workflows.plan import Line, LineKind

DATA = b"-----BEGIN CERTIFICATE-----\n" + bytes(range(65, 90)) * 200 + b"\n-----END CERTIFICATE-----\n"
PROVED = Uploaded(name="web.crt", size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())


def line(kind: LineKind, text: str) -> Line:
    return Line(kind=kind, text=text)


UPLOAD = line(LineKind.UPLOAD, "web.crt")


def key_pem(kind=ser.PrivateFormat.PKCS8, *, passphrase=None):
    key = rsa.generate_private_key(65537, 2048)
    encryption = ser.BestAvailableEncryption(passphrase) if passphrase else ser.NoEncryption()
    return key.private_bytes(ser.Encoding.PEM, kind, encryption)


def uploads(world):
    return [one.outcome for one in world.fleet.records("upload") if one.phase == "end"]


def test_listing_gives_names_and_sizes(world):
    """What SFTP lists is what the server holds."""
    world.fleet.put_file("cmscore1", "web.crt", DATA)
    with world.session() as session:
        files = world.do(session.listing())
    assert RemoteFile(name="web.crt", size=len(DATA)) in files
    held = world.fleet.files("cmscore1")
    assert {file.name: file.size for file in files if file.name in held} == {n: len(d) for n, d in held.items()}
    assert [file.name for file in files] == sorted(file.name for file in files)


@pytest.mark.parametrize("data", [b"", b"x", DATA, DATA * 40])
def test_upload_is_read_back_and_fetched_again(world, data):
    """What went up comes down the same, whatever its size."""
    with world.session(UPLOAD) as session:
        proved = world.do(session.upload(UPLOAD, data))
        assert world.do(session.fetch("web.crt")) == data
    expected = Uploaded(name="web.crt", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert (proved, world.fleet.files("cmscore1")["web.crt"], uploads(world)) == (expected, data, ["ok"])


def test_shorter_upload_overwrites_the_whole_file(world):
    """Nothing of a longer old file stays."""
    world.fleet.put_file("cmscore1", "web.crt", DATA * 2)
    with world.session(UPLOAD) as session:
        world.do(session.upload(UPLOAD, DATA))
    assert world.fleet.files("cmscore1")["web.crt"] == DATA


@pytest.mark.parametrize("count", [0, 1, 64, len(DATA) - 1])
def test_partial_upload_is_overwritten_once(world, count):
    """A cut upload leaves a piece; the next attempt replaces it, and only then it counts."""
    world.fleet.fault("partial-upload", match="upload web.crt", count=count)
    with world.session(UPLOAD) as session:
        assert world.do(session.upload(UPLOAD, DATA)) == PROVED
    assert (world.fleet.files("cmscore1")["web.crt"], world.logins()) == (DATA, ["login"] * 2)


def test_upload_that_is_cut_again_is_unknown(world):
    """Two cuts are enough; the step decides what comes next."""
    world.fleet.fault("partial-upload", match="upload web.crt", times=9)
    with world.session(UPLOAD) as session, pytest.raises(OutcomeUnknown):
        world.do(session.upload(UPLOAD, DATA))
    assert len([one for one in world.fleet.records("upload") if one.phase == "begin"]) == 2


def test_corrupt_upload_is_noticed_and_overwritten(world):
    """The right size with one wrong bit is not the file."""
    world.fleet.fault("corrupt-upload", match="upload web.crt")
    with world.session(UPLOAD) as session:
        assert world.do(session.upload(UPLOAD, DATA)) == PROVED
    assert (world.fleet.files("cmscore1")["web.crt"], uploads(world)) == (DATA, ["corrupt-upload", "ok"])


def test_upload_that_is_corrupt_twice_is_a_mismatch(world):
    """A server that changes what it stores is not trusted with a third attempt."""
    world.fleet.fault("corrupt-upload", match="upload web.crt", times=9)
    with world.session(UPLOAD) as session, pytest.raises(TransferMismatch) as caught:
        world.do(session.upload(UPLOAD, DATA))
    assert (caught.value.retryable, uploads(world)) == (True, ["corrupt-upload"] * 2)


def test_full_disk_is_a_refusal(world):
    """The server's answer is told, and the session goes on."""
    world.fleet.fault("disk-full", match="upload web.crt")
    with world.session(UPLOAD) as session:
        with pytest.raises(CommandRejected, match="no space left"):
            world.do(session.upload(UPLOAD, DATA))
        assert world.do(session.ask(PkiList())) != ()
    assert world.logins() == ["login"]


def test_key_that_was_uploaded_is_compared_too(world):
    """We wrote it, so reading it back gives nothing away; its content is in no transcript."""
    key, upload = key_pem(), line(LineKind.UPLOAD, "web.key")
    with world.session(upload) as session:
        proved = world.do(session.upload(upload, key))
    assert (proved.read_back, world.fleet.files("cmscore1")["web.key"]) == (True, key)
    transcript = str(world.transcript())
    assert (key.decode().splitlines()[3] in transcript, proved.sha256 in transcript) == (False, True)


def test_key_that_the_server_gives_to_nobody_is_compared_by_size(world):
    """Then `pki match` is the proof; the answer says that nothing was read back."""
    world.fleet.fault("refuse-key-download", match="download web.key")
    key, upload = key_pem(), line(LineKind.UPLOAD, "web.key")
    with world.session(upload) as session:
        proved = world.do(session.upload(upload, key))
    assert (proved.size, proved.read_back) == (len(key), False)


@pytest.mark.parametrize("name", ["web.key", "WEB.KEY", "certbridge.bak", "pair.p12", "pair.pfx"])
def test_guarded_names_are_not_even_asked_for(world, name):
    """Keys and backups are not fetched unless the plan says so."""
    world.fleet.put_file("cmscore1", name, b"anything")
    with world.session(line(LineKind.FETCH, "other.key")) as session, pytest.raises(KeyGuarded):
        world.do(session.fetch(name))
    assert world.fleet.records("download") == ()


def test_key_under_another_name_is_dropped(world):
    """The content decides as well, and the transcript tells."""
    world.fleet.put_file("cmscore1", "web.crt", DATA + key_pem())
    with world.session() as session, pytest.raises(KeyGuarded, match="dropped"):
        world.do(session.fetch("web.crt"))
    assert [entry["text"] for entry in world.transcript() if entry["is"] == "note"][-1].endswith("it was dropped")


def test_planned_fetch_of_a_key_is_allowed(world):
    """A pair that several nodes share is fetched, because the plan showed it."""
    key = key_pem()
    world.fleet.put_file("cmscore1", "shared.key", key)
    with world.session(line(LineKind.FETCH, "shared.key")) as session:
        assert world.do(session.fetch("shared.key")) == key


@pytest.mark.parametrize(
    ("data", "is_key"),
    [
        (key_pem(), True),
        (key_pem(ser.PrivateFormat.TraditionalOpenSSL), True),
        (key_pem(passphrase=b"pw"), True),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                ser.Encoding.DER, ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption()
            ),
            True,
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption()
            ),
            True,
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(b"pw")
            ),
            True,
        ),
        (
            pkcs12.serialize_key_and_certificates(
                b"x", ec.generate_private_key(ec.SECP256R1()), None, None, ser.BestAvailableEncryption(b"pw")
            ),
            True,
        ),
        (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo),
            False,
        ),
        (DATA, False),
        (b"", False),
        (b"\x30\x03\x02\x01\x03", False),
    ],
    ids=itertools.count(),  # the bytes are random, and a test must have the same name in every process
)
def test_private_keys_are_known_by_their_content(data, is_key):
    """PEM and DER of every kind, encrypted or not; certificates and public keys are let through."""
    assert holds_private_key(data) is is_key


def test_missing_file_is_told_apart_from_a_forbidden_one(world):
    """Steps ask whether a file is there; the two answers must not be mixed up."""
    world.fleet.put_file("cmscore1", "shared.key", key_pem())
    world.fleet.fault("refuse-key-download", match="download shared.key")
    with world.session(line(LineKind.FETCH, "shared.key")) as session:
        for name, missing, denied in (("absent.crt", True, False), ("shared.key", False, True)):
            with pytest.raises(CommandRejected) as caught:
                world.do(session.fetch(name))
            assert (caught.value.data["missing"], caught.value.data["denied"]) == (missing, denied)
    assert world.logins() == ["login"]


def test_rename_and_delete_do_what_the_plan_says(world):
    """Names change places, files go."""
    rename, delete = line(LineKind.RENAME, "web.crt -> web-old1.crt"), line(LineKind.DELETE, "web-old1.crt")
    world.fleet.put_file("cmscore1", "web.crt", DATA)
    with world.session(rename, delete) as session:
        world.do(session.rename(rename))
        between = set(world.fleet.files("cmscore1"))
        world.do(session.delete(delete))
    assert ("web.crt" in between, "web-old1.crt" in between) == (False, True)
    assert "web-old1.crt" not in world.fleet.files("cmscore1")
    kinds = [(entry["text"], entry["name"]) for entry in world.transcript() if entry["is"] == "transfer"]
    assert kinds == [("rename", "web.crt"), ("delete", "web-old1.crt")]


def test_rename_that_the_server_refuses_is_told(world):
    """The scratch file of stage 200 finds out whether rename works."""
    rename = line(LineKind.RENAME, "web.crt -> web-old1.crt")
    world.fleet.put_file("cmscore1", "web.crt", DATA)
    world.fleet.fault("rename-refused")
    with world.session(rename) as session, pytest.raises(CommandRejected, match=r"renaming web\.crt was refused"):
        world.do(session.rename(rename))


@pytest.mark.parametrize(
    ("method", "kind", "arguments"),
    [("upload", LineKind.UPLOAD, (DATA,)), ("rename", LineKind.RENAME, ()), ("delete", LineKind.DELETE, ())],
)
def test_transfer_that_is_not_in_the_plan_is_not_made(world, method, kind, arguments):
    """Nothing is written, moved or deleted that the plan did not show, and no line of another kind passes for it."""
    wanted = line(kind, "web.crt -> x.crt")
    with world.session(line(LineKind.FETCH, wanted.text), line(kind, "y.crt")) as session, pytest.raises(NotInPlan):
        world.do(getattr(session, method)(wanted, *arguments))
    assert world.logins() == []
