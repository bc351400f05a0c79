"""Laws of the conversation and of the words in it: any split, any bytes, there and back."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from workflows.errors import InputError, UnexpectedReply
from workflows.mmp.commands import CHANGING, READING, PkiCsr, PkiInspect, command_of, is_reading_line, quoted, words_of
from workflows.mmp.conversation import Conversation, Question, Reply, State
from workflows.mmp.replies import (
    Standing,
    Verdict,
    mask,
    parse_database_status,
    parse_date,
    parse_inspection,
    parse_licences,
    parse_pki_answer,
    parse_pki_list,
    parse_status,
    parse_users,
    parse_version,
)

PROMPTS = st.sampled_from([b"cms1> ", b"cms1>", b"cms1.example.com> "])
ENDS = st.sampled_from([b"\r\n", b"\n", b"\r\x00", b"\r\r\n"])
DECORATION = st.sampled_from([b"", b"\x1b[0m", b"\x1b[?2004h", b"\x1b]0;t\x07", b"\x1b(B"])
# Lines that a server could print; none begins with the prompt, which is the one thing that cannot be told from it.
LINES = st.one_of(
    st.sampled_from(
        [
            b"Password                : Cisco.123",
            b"Enabled : true",
            b"Are you sure? (Y/n)",
            b"Please enter password: ",
            b"log of cms1> pki list",
            b"",
            b"......",
            "prüfung 鍵".encode(),
            b"bad \xff\xc3",
        ]
    ),
    st.binary(max_size=12).filter(lambda line: not set(line) & set(b"\r\n\x1bcC")),
)


@st.composite
def streams(draw):
    """Return (prompt, what comes after the line was sent, whether the server echoes)."""
    prompt, end, echo = draw(PROMPTS), draw(ENDS), draw(st.booleans())
    lines = [draw(DECORATION) + line for line in draw(st.lists(LINES, max_size=6))]
    head = [b"pki list"] if echo else []
    return prompt, end.join([*head, *lines, draw(DECORATION) + prompt]), echo


def at_prompt(prompt, *, echo):
    """Return a conversation at its prompt that knows whether the server echoes."""
    conversation = Conversation()
    conversation.receive(prompt)
    conversation.start()
    conversation.receive((b"\r\n" if echo else b"") + prompt)
    conversation.send("version")
    conversation.receive((b"version\r\n" if echo else b"") + b"3.9\r\n" + prompt)
    assert conversation.state is State.READY
    conversation.send("pki list")
    return conversation


def cut(data, places):
    """Return *data* in the pieces between *places*."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@given(streams(), st.lists(st.integers(min_value=0, max_value=400), max_size=12))
def test_bytes_in_any_split_give_the_same_events(stream, places):
    """Where the network cuts is nobody's business."""
    prompt, data, echo = stream
    whole, pieces = at_prompt(prompt, echo=echo), at_prompt(prompt, echo=echo)

    assert [event for piece in cut(data, places) for event in pieces.receive(piece)] == whole.receive(data)


@given(streams())
def test_byte_by_byte_a_stream_ends_in_the_same_reply(stream):
    """The finest split of all; the reply holds every line and nothing of prompt or echo."""
    prompt, data, echo = stream
    whole, pieces = at_prompt(prompt, echo=echo), at_prompt(prompt, echo=echo)

    events = whole.receive(data)
    assert [event for piece in cut(data, range(len(data))) for event in pieces.receive(piece)] == events
    assert isinstance(events[-1], Reply)
    assert whole.state is State.READY


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"cms1> ", b"\r\ncms1> ", b"pki list\r\n", b"(Y/n)", b"enter password:", b"\x1b[", b"\r"]),
            st.sampled_from(["start", "send", "quiet", "answer", "interrupt", "enter"]),
        ),
        max_size=30,
    )
)
@example([b"cms1> ", "start", b"\r\ncms1> ", "send", b"pki list\r\n(Y/n)", "answer", b"\r\ncms1> ", "quiet"])
@example([b"\xff\x1b[" * 200])
def test_any_bytes_give_events_or_an_unexpected_reply(steps):
    """Whatever comes, whenever it comes: never another error.

    Moves that the state does not allow are the caller's fault, and a RuntimeError.
    """
    conversation = Conversation(longest_reply=300)
    moves = {
        "start": conversation.start,
        "send": lambda: conversation.send("pki list"),
        "quiet": conversation.quiet,
        "answer": lambda: conversation.answer("Y"),
        "interrupt": conversation.interrupt,
        "enter": conversation.enter,
    }
    for step in steps:
        try:
            events = conversation.receive(step) if isinstance(step, bytes) else list(moves[step]())
        except UnexpectedReply:
            assert conversation.state is State.CLOSED
            return
        except RuntimeError:
            assert isinstance(step, str)
            continue
        assert all(len(event.text) <= 512 for event in events if isinstance(event, Question))


@given(st.text(max_size=60))
@example("FAILURE: no")
@example("9999-99-99 99:99:99")
@example("2026-01-01 00:00:00 +99:99")
@example("0001-01-01 00:00:00 +14:00")
@example("Status : x\nNodes:\n  : y\n    a : Connected Primary Replica")
def test_any_text_is_parsed_or_refused(text):
    """Parsers give a value or UnexpectedReply, never another error."""
    parsers = (
        parse_status,
        parse_database_status,
        parse_pki_list,
        parse_inspection,
        parse_pki_answer,
        parse_version,
        parse_date,
        parse_licences,
        parse_users,
    )
    for parser in parsers:
        try:
            parser(text)
        except UnexpectedReply as error:
            assert error.data["reply"] == mask(text)  # noqa: PT017 - either way is right; pytest.raises would demand one
    assert Verdict.of(text, standing=Standing.GUESSED).outcome.value in {"refused", "unknown"}


SECRETS = st.sampled_from(
    [
        "Password : x",
        "Shared secret : none",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "Secret\t:\ty",
        "a : b",
        "",
    ]
)


@given(st.lists(st.one_of(SECRETS, st.text(max_size=20)), max_size=8).map("\n".join))
def test_masking_twice_changes_nothing(text):
    """Masked text is masked."""
    assert mask(mask(text)) == mask(text)


@given(st.text(min_size=1, max_size=30))
def test_a_quoted_value_is_one_word_again_or_refused(value):
    """No value becomes two words, and none changes on its way."""
    try:
        written = quoted(value)
    except InputError:
        return
    assert words_of(written) == (value,)
    assert words_of(f"pki csr O:{written} CN:x") == ("pki", "csr", f"O:{value}", "CN:x")


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 .&()ü,]{0,12}[A-Za-z0-9.]", fullmatch=True)


@given(NAMES, VALUES, VALUES, st.lists(st.from_regex(r"[a-z0-9.*:@-]{1,15}", fullmatch=True), max_size=4).map(tuple))
def test_a_request_is_read_back_from_its_line(basename, common_name, organisation, names):
    """The parse of a rendered line is the command itself."""
    command = PkiCsr(basename, CN=common_name, O=organisation, subjectAltName=names)

    assert command_of(command.line()) == command
    assert not is_reading_line(command.line())


@given(st.text(max_size=40))
def test_a_reading_line_is_what_a_reading_command_sends(line):
    """Whatever passes is letter for letter the line of a command, without control characters."""
    if is_reading_line(line):
        command = command_of(line)
        assert (type(command) in READING, command.line()) == (True, line)
        assert line.isprintable()


@given(st.text(alphabet="ab.-_ \n\r\"'/\\;|&\x03ü", min_size=1, max_size=12))
def test_a_file_name_cannot_leave_its_place(name):
    """Either refused, or exactly three words on one line."""
    try:
        line = PkiInspect(name).line()
    except InputError:
        return
    assert words_of(line) == ("pki", "inspect", name)
    assert not set(line) & set("\n\r\x03/\\")


@given(st.sampled_from([case for case in CHANGING if not case.form.count("<")]))
def test_changing_lines_are_never_reading_lines(command):
    """No command stands in both lists."""
    assert not is_reading_line(command().line())
