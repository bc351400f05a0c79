"""Redaction and transcripts: secrets stay out, whatever form they have and wherever the pieces end."""

import base64
import io
import itertools
import json
import logging
import stat
import string
import sys
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.credentials import Secret
from workers.redaction import RedactedStream, Redactor
from workers.transcript import Transcripts, check

CANARY = 'c4n"ary/p+ss wörd'
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIcanaryAAAA\nBBBBcanary==\n-----END RSA PRIVATE KEY-----\n"


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.register(Secret(secret))
    return redactor


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        json.dumps(CANARY)[1:-1],
        json.dumps(CANARY, ensure_ascii=False)[1:-1],
        quote(CANARY, safe=""),
        quote(CANARY),
    ],
)
def test_secret_is_hidden_in_each_written_form(form):
    """Plain, in JSON and in a URL."""
    assert knowing(CANARY).redact(f"<{form}>") == "<********>"


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "admin:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_secret_is_hidden_inside_base64_at_each_alignment(before, encode):
    """An `Authorization: Basic` value does not give the password away."""
    encoded = encode(f"{before}{CANARY}{before}".encode()).decode()
    shown = knowing(CANARY).redact(encoded)
    assert "********" in shown
    hidden = encoded.replace("=", "")
    assert len(shown) < len(hidden)
    assert not any(hidden[at : at + 12] in shown for at in range(8, len(hidden) - 20))


def test_password_rows_and_private_keys_are_hidden_without_being_known():
    """What a server prints of its own secrets is hidden by pattern."""
    shown = Redactor().redact(f"Username : admin\nPassword                : Cisco.123\n{KEY}Realm : cms.demo\n")
    assert ("Cisco.123" in shown, "canary" in shown, "Realm : cms.demo" in shown) == (False, False, True)


@given(
    secret=st.text(alphabet=string.ascii_letters + string.digits + '+/%"\\ö', min_size=8, max_size=24),
    around=st.text(alphabet="xyz \n", max_size=30),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_no_split_of_the_text_lets_a_secret_through(secret, around, cuts):
    """Pieces may end anywhere: the sum of what is written is the redaction of the whole."""
    redactor = knowing(secret)
    text = f"{around}{secret}\n{around}{KEY}tail"
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    stream = RedactedStream(redactor)
    written = [stream.feed(text[start:end]) for start, end in itertools.pairwise(edges)]
    assert "".join([*written, stream.flush()]) == redactor.redact(text)


@given(cut=st.integers(1, 60))
def test_secret_of_many_lines_is_hidden_when_its_lines_come_apart(cut):
    """A registered text of several lines is held back until all of it has come."""
    secret = "first-line\nsecond-line\nthird-line"
    text = f"before\n{secret}\nafter\n"
    stream = RedactedStream(knowing(secret))
    assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == "before\n********\nafter\n"


def test_redacting_twice_changes_nothing():
    """The redaction of a redaction is itself."""
    redactor = knowing(CANARY)
    once = redactor.redact(f"{CANARY}\nPassword : x\n{KEY}")
    assert redactor.redact(once) == once


def test_structlog_events_are_redacted_in_depth():
    """Lists, mappings, bytes and errors inside an event are redacted too."""
    event = {"event": "login", "data": [{"p": CANARY}], "raw": CANARY.encode(), "error": ValueError(CANARY), "n": 1}
    shown = knowing(CANARY)(None, "info", event)
    assert shown == {
        "event": "login",
        "data": [{"p": "********"}],
        "raw": "********",
        "error": "ValueError: ********",
        "n": 1,
    }


def test_log_records_are_redacted_with_their_tracebacks():
    """A library that logs an error with the password in it does not write the password."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(knowing("canary-password"))
    try:
        int("refused: canary-password")
    except ValueError:
        traceback = sys.exc_info()
    arguments = ("canary-password",)
    handler.handle(logging.LogRecord("x", logging.ERROR, __file__, 1, "login with %s", arguments, traceback))
    assert ("canary" in stream.getvalue(), "ValueError: invalid literal" in stream.getvalue()) == (False, True)


def test_transcript_holds_both_ways_masked_and_dated(tmp_path):
    """One line for what we sent, one for the whole answer, however it came in."""
    moment = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)
    transcripts = Transcripts(tmp_path, knowing("canary-password"), now=lambda: moment)
    transcript = transcripts.open("run-1", "cms1")
    transcript.sent(b"turn\r\n")
    for piece in (b"Password : cana", b"ry-password\r\nRealm : w\xc3", b"\xb6rld \xff\r\ncms1> "):
        transcript.received(piece)
    transcript.close()
    lines = read(transcripts.path("run-1", "cms1"))
    assert [(line["is"], line["text"].replace("\r\n", "\n")) for line in lines] == [
        ("sent", "turn\n"),
        ("received", "Password : ********\nRealm : wörld \\xff\ncms1> "),
    ]
    assert {line["at"] for line in lines} == {"2026-11-05T10:00:00.000Z"}


def test_transfer_is_noted_by_name_size_and_digest_only(tmp_path):
    """The content of a file is never part of a transcript."""
    transcripts = Transcripts(tmp_path, Redactor())
    transcript = transcripts.open("run-1", "cms1")
    transcript.transfer("upload", "web.key", size=1704, sha256="ab" * 32)
    transcript.close()
    (line,) = read(transcript.path)
    assert {name: line[name] for name in ("is", "text", "name", "size", "sha256")} == {
        "is": "transfer",
        "text": "upload",
        "name": "web.key",
        "size": 1704,
        "sha256": "ab" * 32,
    }


def test_digest_proves_the_lines_of_one_session_among_others(tmp_path):
    """Two sessions share a file; each digest is about its own lines, and a changed line is noticed."""
    transcripts = Transcripts(tmp_path, Redactor())
    one, two = transcripts.open("run", "cms1"), transcripts.open("run", "cms1")
    for text in (b"pki list\r\n", b"version\r\n"):
        one.sent(text)
        two.sent(text + b"2")
    one.close()
    two.close()
    assert [check(one.path, each.session, each.digest()) for each in (one, two)] == [True, True]
    one.path.write_text(one.path.read_text().replace('"version\\r\\n"', '"version!"'))
    assert [check(one.path, each.session, each.digest()) for each in (one, two)] == [False, True]


def test_transcripts_are_ours_alone_and_stay_in_their_folder(tmp_path):
    """Modes are 0700 and 0600, and no name leads out of the folder."""
    transcripts = Transcripts(tmp_path / "transcripts", Redactor())
    transcript = transcripts.open("../../run", "..")
    transcript.note("hello")
    transcript.close()
    path = transcript.path
    assert path.resolve().is_relative_to((tmp_path / "transcripts").resolve())
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)] == [0o700, 0o600]
