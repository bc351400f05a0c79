"""A conversation with a server's command line, without I/O: bytes in, events out (in the manner of h11).

Here lives how a reply is cut out of the stream: prompt, echo, questions, stray lines. Not here: sockets, clocks and
time limits (`workers.session`), what the lines mean (`mmp.replies`), which may be sent (`mmp.commands`).

How a session uses it:

    conversation = Conversation()
    events = conversation.receive(data)       after login: wait for PromptSeen, then
    write(conversation.start())               an empty line; Ready comes when the same prompt came again
    write(conversation.send("pki list"))      then Echo, Output…, Reply (or Question, Stray)
    events = conversation.quiet()             when nothing has come for a while (a second, say): a question without a
    known form

Rules (mmp-reference 1.1, 1.3; most are guesses, hence the care): the prompt is `<hostname>>` with or without a blank
after it; it is one only at the start of a line, with nothing after it. Where the server echoes, an answer begins after
the echo of its line, so prompts and lines that are late belong to no reply. The prompt changes only by a reboot, which
ends the connection, so one conversation has one prompt. A terminal of 200 columns or more saves the echo from being
wrapped; wrapped echoes are understood too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn

from workflows.errors import InputError, UnexpectedReply
from workflows.mmp.replies import mask
from workflows.mmp.terminal import Terminal

LONGEST_REPLY = 1 << 20
"""Bytes; the longest real reply is a `pki inspect` of a bundle, some ten thousand."""
LONGEST_LINE = 1 << 16
"""Characters; lines of certificates have 64, names in a certificate some thousand."""

_PROMPT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*>")
_TWO_PROMPTS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*>) ?\1")  # a server without echo
_ONE_KEY = re.compile(r"[(\[][Yy]/[Nn][)\]]")  # "(Y/n)", mmp-reference 1.3
_ENTER_SECRET = re.compile(r"(?i)enter\b[^:]*(?:password|pass ?phrase|secret)\b[^:]*:")  # "Please enter password:", 1.1
_ASKING = re.compile(r"[?:)\]]$")
_ROW = re.compile(r"\s:$")  # "Password                :" is a status row cut short
_SECRET_WORDS = re.compile(r"(?i)password|pass ?phrase|secret")
_LONGEST_QUESTION = 512
_MOST_WRAPS = 64
_HIDDEN = "********"


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something the bytes told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSeen(Event):
    """After login, the last line looks like a prompt: time for `start()`. It comes once."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner(Event):
    """What the server said before its first prompt, "" for nothing."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Event):
    """The prompt is confirmed, e.g. "cms1.example.com>"; lines may be sent."""

    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo(Event):
    """The server echoed the line that was sent; what follows is its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Event):
    """One line of the answer, without line end."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray(Event):
    """A line that belongs to no answer: a log line, or the rest of an earlier answer."""

    line: str


class Keys(Enum):
    """What a question takes."""

    SINGLE = "single key"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Event):
    """The server waits for an answer; *secret* when for a password; *before* are the lines of the reply so far."""

    text: str
    keys: Keys
    secret: bool = False
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Event):
    """The complete answer to *command*: all between echo and prompt, joined by line feeds, questions too."""

    command: str
    text: str
    prompt: str = ""
    interrupted: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the text; () for a silent command."""
        return tuple(self.text.split("\n")) if self.text else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Event):
    """The stream ended; *command* was unanswered ("" for none): its outcome is unknown. *text* had come of it."""

    command: str
    text: str


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class State(Enum):
    """Where a conversation is."""

    LOGIN = auto()  # banner and first prompt come
    PROBING = auto()  # an empty line was sent to see the prompt again
    READY = auto()
    SENT = auto()  # a line was sent, its echo has not come (or there is none)
    REPLYING = auto()
    ASKED = auto()  # the server waits for an answer
    INTERRUPTED = auto()  # Ctrl-C was sent
    CLOSED = auto()


class _Trigger(Enum):
    START = auto()
    CONFIRMED = auto()
    SEND = auto()
    ECHO = auto()
    QUESTION = auto()
    ANSWER = auto()
    PROMPT = auto()
    INTERRUPT = auto()


_TRANSITIONS: dict[tuple[State, _Trigger], State] = {
    (State.LOGIN, _Trigger.START): State.PROBING,
    (State.PROBING, _Trigger.CONFIRMED): State.READY,
    (State.READY, _Trigger.SEND): State.SENT,
    (State.SENT, _Trigger.ECHO): State.REPLYING,
    (State.SENT, _Trigger.QUESTION): State.ASKED,  # only where nothing is echoed
    (State.SENT, _Trigger.PROMPT): State.READY,  # the same
    (State.REPLYING, _Trigger.QUESTION): State.ASKED,
    (State.REPLYING, _Trigger.PROMPT): State.READY,
    (State.ASKED, _Trigger.ANSWER): State.REPLYING,
    (State.ASKED, _Trigger.PROMPT): State.READY,  # the server asked no longer
    (State.SENT, _Trigger.INTERRUPT): State.INTERRUPTED,
    (State.REPLYING, _Trigger.INTERRUPT): State.INTERRUPTED,
    (State.ASKED, _Trigger.INTERRUPT): State.INTERRUPTED,
    (State.INTERRUPTED, _Trigger.INTERRUPT): State.INTERRUPTED,
    (State.INTERRUPTED, _Trigger.PROMPT): State.READY,
}


class Conversation:
    """One login's worth of conversation; *line_end* is what ends a line that is sent."""

    def __init__(self, *, line_end: bytes = b"\n", longest_reply: int = LONGEST_REPLY) -> None:
        self._terminal = Terminal()
        self._line_end = line_end
        self._longest = longest_reply
        self._state = State.LOGIN
        self._prompt = ""
        self._echoes: bool | None = None  # None: not known yet
        self._command = ""
        self._secrets: tuple[str, ...] = ()
        self._lines: list[str] = []  # complete lines of banner or answer
        self._tail = ""  # the line that is not complete
        self._asked_in_line = False
        self._question: Question | None = None
        self._prompt_seen = False
        self._probe_line = 0
        self._received = 0

    @property
    def state(self) -> State:
        """Where the conversation is."""
        return self._state

    @property
    def prompt(self) -> str:
        """The confirmed prompt, e.g. "cms1>"; "" before Ready."""
        return self._prompt

    @property
    def echoes(self) -> bool | None:
        """Whether the server echoes; None before the first answer.

        Where it does not, nothing tells a late prompt from the next: after `interrupt` or a one-key answer that needed
        Enter as well, the session then closes the connection.
        """
        return self._echoes

    # ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> bytes:
        """Return the empty line that makes the server show its prompt again; only after PromptSeen, and once."""
        if not self._prompt_seen:
            # An empty line may not answer whatever a server asks at login.
            raise RuntimeError("Nothing has been seen yet that looks like a prompt.")
        self._move(_Trigger.START)
        self._probe_line = len(self._lines)
        return self._line_end

    def send(self, line: str, *, secret: bool = False) -> bytes:
        """Return the bytes of *line*; a *secret* line shows in no event.

        Raises: InputError: control characters in the line.
        """
        data = self._bytes_of(line) + self._line_end
        self._move(_Trigger.SEND)
        self._command = line
        self._secrets = (line,) if secret and line else ()
        self._begin()
        return data

    def answer(self, text: str, *, keys: Keys | None = None) -> bytes:
        """Return the bytes that answer the open question: one key without line end, or a line.

        Whether a one-key question wants Enter as well is not known (mmp-reference 1.3): when nothing comes after the
        key, send `enter()`.
        Raises: InputError: control characters, or more than one key where one is asked for.
        """
        if self._question is None:
            raise RuntimeError("There is no question to answer.")
        wanted = keys or self._question.keys
        data = self._bytes_of(text)
        if wanted is Keys.SINGLE and len(text) != 1:
            raise InputError(f"The question takes one key, not {len(text)}.")
        if self._question.secret and text:
            self._secrets = (*self._secrets, text)
        self._move(_Trigger.ANSWER)
        self._question = None
        return data if wanted is Keys.SINGLE else data + self._line_end

    def enter(self) -> bytes:
        """Return a line end, for a one-key answer after which nothing came."""
        if self._state is not State.REPLYING:
            raise RuntimeError("Enter is sent only after an answer.")
        return self._line_end

    def interrupt(self) -> bytes:
        """Return Ctrl-C; the next prompt then ends the reply. b"" when there is nothing to interrupt."""
        if self._state in {State.READY, State.LOGIN, State.PROBING, State.CLOSED}:
            return b""
        self._move(_Trigger.INTERRUPT)
        self._question = None
        return b"\x03"

    # ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, data: bytes) -> list[Event]:
        """Return the events that *data* completes; wherever the stream is cut, the events are the same.

        Raises: UnexpectedReply: more than 1 MiB without an end, a line of more than 64 KiB, or bytes after `end`.
        """
        if self._state is State.CLOSED:
            raise UnexpectedReply("The conversation is over, and yet something came.")
        self._received += len(data)
        if self._received > self._longest:
            self._give_up(f"More than {self._longest} bytes came and no prompt.")
        *complete, rest = self._terminal.feed(data).split("\n")
        events: list[Event] = []
        for piece in complete:
            self._add(piece)
            events += self._line_ended()
        self._add(rest)
        events += self._tail_grew()
        return events

    def quiet(self) -> list[Event]:
        """Return what the stream means if no more comes: a Question of no known form, or the end a log line hid."""
        tail = self._tail.strip()
        if self._state is State.CLOSED or self._asked_in_line:
            return []
        if tail and self._listens_for_questions(at_login=True) and _ASKING.search(tail) and not _ROW.search(tail):
            return self._ask(tail, Keys.LINE, secret=_SECRET_WORDS.search(tail) is not None)
        if not tail and self._state in {State.REPLYING, State.INTERRUPTED}:
            return self._hidden_prompt()
        return []

    def end(self) -> list[Event]:
        """Return Closed: the stream ended. A second call gives nothing."""
        if self._state is State.CLOSED:
            return []
        busy = self._state in {State.SENT, State.REPLYING, State.ASKED, State.INTERRUPTED}
        text = "\n".join([*self._lines, self._tail] if self._tail else self._lines)
        closed = Closed(command=self._hide(self._command) if busy else "", text=self._hide(text))
        self._close()
        return [closed]

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _move(self, trigger: _Trigger) -> None:
        following = _TRANSITIONS.get((self._state, trigger))
        if following is None:
            # A fault of the caller, not of the server: no error of ours.
            raise RuntimeError(f"{trigger.name.lower()} is not possible in state {self._state.name.lower()}.")
        self._state = following

    def _close(self) -> None:
        self._state = State.CLOSED
        self._begin()
        self._question = None

    def _give_up(self, why: str) -> NoReturn:
        command = self._hide(self._command)
        self._close()
        raise UnexpectedReply(why, command=command)

    def _add(self, text: str) -> None:
        self._tail += text
        if len(self._tail) > LONGEST_LINE:
            self._give_up(f"A line of more than {LONGEST_LINE} characters came.")

    def _begin(self) -> None:
        self._lines = []
        self._tail = ""
        self._asked_in_line = False
        self._received = 0

    @staticmethod
    def _bytes_of(text: str) -> bytes:
        if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u2029" for char in text):
            raise InputError("A line holds control characters; it was not sent.")
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise InputError("A line holds characters that cannot be sent; it was not sent.") from None

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def _is_prompt(self, line: str) -> bool:
        return bool(self._prompt) and line in {self._prompt, f"{self._prompt} "}

    def _listens_for_questions(self, *, at_login: bool = False) -> bool:
        if self._state in {State.LOGIN, State.PROBING}:
            return at_login
        return self._state is State.REPLYING or (self._state is State.SENT and not self._echoes)

    def _line_ended(self) -> list[Event]:
        asked = self._asks()
        line, self._tail, self._asked_in_line = self._tail, "", False
        if self._state is State.READY:
            if self._is_prompt(line) or not line.strip():
                return []
            return [Stray(line=mask(line))]
        if self._state in {State.LOGIN, State.PROBING}:
            self._lines.append(line)
            return []
        if self._state is State.SENT:
            return self._line_before_echo(line)
        if self._is_prompt(line):
            return [*asked, *self._answered()]
        self._lines.append(line)
        return [*asked, Output(line=self._hide(line))]

    def _line_before_echo(self, line: str) -> list[Event]:
        """Look for the echo; lines before it are stray where the server echoes, and wait until that is known."""
        if self._echoes is False:
            if self._is_prompt(line):
                return self._answered()
            self._lines.append(line)
            return [Output(line=self._hide(line))]
        self._lines.append(line)
        length = self._echo_length()
        if not length:
            return []
        strays = [text for text in self._lines[:-length] if text.strip() and not self._is_prompt(text)]
        self._lines = []
        self._echoes = True
        self._move(_Trigger.ECHO)
        return [*(Stray(line=mask(self._hide(text))) for text in strays), Echo()]

    def _echo_length(self) -> int:
        """Return how many lines at the end are the echo (a narrow terminal wraps it), 0 when it is not there."""
        wanted = "".join(self._command.split())
        if wanted and not self._lines[-1].strip():
            return 0
        joined = ""
        for count, line in enumerate(reversed(self._lines), start=1):
            joined = "".join(line.split()) + joined
            bare = joined.removeprefix(self._prompt)
            if bare == wanted and (wanted or count == 1):
                return count
            if len(joined) > len(wanted) + len(self._prompt) or count == _MOST_WRAPS:
                break
        return 0

    def _tail_grew(self) -> list[Event]:
        tail = self._tail
        if self._state is State.LOGIN:
            if self._prompt_seen or not _PROMPT.fullmatch(tail.removesuffix(" ")):
                return []
            self._prompt_seen = True
            return [PromptSeen(text=tail.removesuffix(" "))]
        if self._state is State.PROBING:
            return self._confirm(tail.removesuffix(" "))
        if self._state is State.READY:
            if self._is_prompt(tail):
                self._tail = ""
            return []
        if self._is_prompt(tail):
            if self._state is State.SENT and self._echoes:
                return []  # late: the echo of our line has not come yet
            return self._answered()
        return self._asks()

    def _confirm(self, tail: str) -> list[Event]:
        """Return Banner and Ready when the text before the cursor was shown twice, the second time after `start`."""
        twice = _TWO_PROMPTS.fullmatch(tail)
        if twice:
            prompt, first = twice[1], len(self._lines)
        elif _PROMPT.fullmatch(tail):
            prompt = tail
            numbers = range(self._probe_line, len(self._lines))
            first = next((number for number in numbers if self._lines[number].startswith(prompt)), -1)
            if first < 0:
                return []
        else:
            return []
        banner = "\n".join(line for line in self._lines[:first] if line.strip())
        self._prompt = prompt
        self._move(_Trigger.CONFIRMED)
        self._begin()
        return [Banner(text=mask(banner)), Ready(prompt=prompt)]

    def _asks(self) -> list[Event]:
        """Return the question of a known form that the line holds, once per line, cut off where the form ends."""
        if self._asked_in_line or not self._listens_for_questions():
            return []
        start = self._tail[:_LONGEST_QUESTION]
        one_key, secret = _ONE_KEY.search(start), _ENTER_SECRET.search(start)
        if one_key and (secret is None or one_key.end() < secret.end()):
            return self._ask(start[: one_key.end()].strip(), Keys.SINGLE, secret=False)
        if secret:
            return self._ask(start[: secret.end()].strip(), Keys.LINE, secret=True)
        self._asked_in_line = len(self._tail) >= _LONGEST_QUESTION  # no question is that long: look no further
        return []

    def _ask(self, text: str, keys: Keys, *, secret: bool) -> list[Event]:
        self._asked_in_line = True
        question = Question(text=self._hide(text), keys=keys, secret=secret, before=tuple(map(self._hide, self._lines)))
        if self._state in {State.LOGIN, State.PROBING}:
            return [question]  # a forced change of password, say: shown, never answered
        held = self._no_echo()
        self._move(_Trigger.QUESTION)
        self._question = question
        return [*held, question]

    def _no_echo(self) -> list[Event]:
        """Note that the server does not echo, when that was not known; return the lines that waited for this."""
        if self._state is not State.SENT or self._echoes is not None:
            return []
        self._echoes = False
        return [Output(line=self._hide(line)) for line in self._lines]

    def _answered(self) -> list[Event]:
        held = self._no_echo()
        interrupted = self._state is State.INTERRUPTED
        self._move(_Trigger.PROMPT)
        text = "\n".join(self._lines)
        reply = Reply(
            command=self._hide(self._command), text=self._hide(text), prompt=self._prompt, interrupted=interrupted
        )
        self._question = None
        self._begin()
        return [*held, reply]

    def _hidden_prompt(self) -> list[Event]:
        """End the reply before a line that begins with the prompt: a log line was written onto it."""
        for number, line in enumerate(self._lines):
            if line.startswith(self._prompt):
                late = [line.removeprefix(self._prompt).strip(), *self._lines[number + 1 :]]
                self._lines = self._lines[:number]
                return [*self._answered(), *(Stray(line=mask(text)) for text in late if text.strip())]
        return []
