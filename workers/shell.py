"""One interactive shell on a server: carries a line there and the whole reply back.

What the bytes mean is decided by `workflows.mmp.conversation`; here are the channel, the time limits and the rule that
a cut or a silence is "unknown", never success (asyncssh itself reports a cut as a quiet end).
Which lines may be sent is the session's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncssh

from workers.login import Timings
from workers.transcript import Transcript
from workflows.errors import LoginRefused, OutcomeUnknown, UnexpectedQuestion, UnexpectedReply, Unreachable
from workflows.mmp.conversation import Closed, Conversation, Event, Keys, PromptSeen, Question, Ready, Reply, State
from workflows.mmp.replies import mask

Answering = Callable[[Question], str | None]
"""Given a question, the answer; None: not expected, so it is not answered."""

_COLUMNS, _ROWS = 500, 100  # wide, so that an editor on the server wraps nothing


def _never(_question: Question) -> str | None:
    return None


class _Channel(asyncssh.SSHClientSession[bytes]):
    """Gathers what comes, and wakes whoever waits."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.arrived = asyncio.Event()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Keep what came."""
        self.data += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end, whatever its reason."""
        self.ended = True
        self.arrived.set()


class Shell:
    """A shell that has shown its prompt; made by `open`. Not for two at a time."""

    def __init__(
        self, node: str, channel: asyncssh.SSHClientChannel[bytes], incoming: _Channel, timings: Timings
    ) -> None:
        self._node = node
        self._channel = channel
        self._incoming = incoming
        self._timings = timings
        self._conversation = Conversation()
        self._spoiled = False

    @classmethod
    async def open(
        cls, node: str, connection: asyncssh.SSHClientConnection, timings: Timings, transcript: Transcript
    ) -> Shell:
        """Return a shell on *connection*, at its prompt.

        Raises: LoginRefused: the server asks for a new password first. Unreachable: no prompt within the login's time.
        """
        try:
            async with asyncio.timeout(timings.login_s):
                incoming = _Channel()
                channel, _ = await connection.create_session(
                    lambda: incoming, encoding=None, request_pty="force", term_type="vt100", term_size=(_COLUMNS, _ROWS)
                )
                shell = cls(node, channel, incoming, timings)
                await shell._greet(transcript)
                return shell
        except TimeoutError:
            raise Unreachable(f"no prompt came within {timings.login_s:g} s of the login", node=node) from None
        except (asyncssh.Error, OSError) as error:
            raise Unreachable(f"the server gives no shell ({error})", node=node) from error
        finally:
            transcript.flush()

    @property
    def prompt(self) -> str:
        """The prompt, e.g. "cms1.example.com>"."""
        return self._conversation.prompt

    @property
    def usable(self) -> bool:
        """Whether the next line can be sent: at the prompt, and nothing late can be taken for its answer."""
        return self._conversation.state is State.READY and not self._incoming.ended and not self._spoiled

    async def exchange(
        self, line: str, *, limit_s: float, transcript: Transcript, answering: Answering = _never
    ) -> Reply:
        """Send *line* and return its whole reply; questions are answered as *answering* says.

        Raises: OutcomeUnknown: cut, or no end within *limit_s*. UnexpectedQuestion: not answered, Ctrl-C was sent.
        InputError: control characters in the line. UnexpectedReply: more than a reply can hold.
        """
        try:
            async with asyncio.timeout(limit_s):
                self._write(self._conversation.send(line), transcript)
                return await self._reply(line, transcript, answering)
        except TimeoutError:
            transcript.note(f"no end of the answer within {limit_s:g} s; the connection is closed")
            raise OutcomeUnknown(
                f"no complete answer to `{line}` came within {limit_s:g} s; what the server did is not known",
                node=self._node,
                command=line,
            ) from None
        except UnexpectedReply as error:
            raise UnexpectedReply(error.message, node=self._node, command=line) from None
        finally:
            transcript.flush()

    async def _reply(self, line: str, transcript: Transcript, answering: Answering) -> Reply:
        answered = False  # by a single key just now
        while True:
            events = await self._events(transcript, may_enter=answered)
            answered = False
            for event in events:
                if isinstance(event, Reply):
                    return event
                if isinstance(event, Closed):
                    self._cut(line, transcript)
                if isinstance(event, Question):
                    answer = answering(event)
                    if answer is None:
                        await self._give_up(line, event, transcript)
                    else:
                        self._write(self._conversation.answer(answer), transcript)
                        answered = event.keys is Keys.SINGLE

    def _cut(self, line: str, transcript: Transcript) -> None:
        transcript.note("the connection was cut")
        raise OutcomeUnknown(
            f"the connection was cut during `{line}`; what the server did is not known",
            node=self._node,
            command=line,
            cut=True,
        )

    async def _give_up(self, line: str, question: Question, transcript: Transcript) -> None:
        """Leave a question unanswered: Ctrl-C, wait for the prompt, tell."""
        text = mask(transcript.redactor.redact(question.text))
        self._write(self._conversation.interrupt(), transcript)
        # Without an echo a late prompt cannot be told from the next one, so the connection is not used again.
        self._spoiled = not self._conversation.echoes
        try:
            async with asyncio.timeout(self._timings.interrupt_s):
                while self._conversation.state is State.INTERRUPTED:
                    await self._events(transcript)
        except TimeoutError:
            self._spoiled = True
        raise UnexpectedQuestion(
            f"the server asked {text!r} after `{line}`; it was not answered, and Ctrl-C was sent",
            node=self._node,
            command=line,
            question=text,
        )

    async def _greet(self, transcript: Transcript) -> None:
        while True:
            for event in await self._events(transcript):
                if isinstance(event, Ready):
                    return
                if isinstance(event, PromptSeen):
                    if self._conversation.state is State.LOGIN:
                        self._write(self._conversation.start(), transcript)
                elif isinstance(event, Closed):
                    raise Unreachable("the server ended the session before its prompt", node=self._node)
                elif isinstance(event, Question):
                    text = mask(transcript.redactor.redact(event.text))
                    raise LoginRefused(
                        f"the server asks {text!r} before its prompt: the password or the account has probably expired",
                        node=self._node,
                        remedy="Log in by hand, answer it, then correct the credential.",
                    )

    def _write(self, data: bytes, transcript: Transcript) -> None:
        transcript.sent(data)
        if not self._incoming.ended:
            self._channel.write(data)

    async def _events(self, transcript: Transcript, *, may_enter: bool = False) -> list[Event]:
        """Return the next events; [] when what came completes none.

        *may_enter*: a key was pressed as an answer; when nothing comes of it, Enter goes after it, once.
        """
        incoming = self._incoming
        while not incoming.data and not incoming.ended:
            incoming.arrived.clear()
            try:
                async with asyncio.timeout(self._timings.quiet_s):
                    await incoming.arrived.wait()
            except TimeoutError:
                events = self._conversation.quiet()
                if events:
                    return events
                if may_enter and self._conversation.state is State.REPLYING:
                    self._write(self._conversation.enter(), transcript)
                    self._spoiled = not self._conversation.echoes
                    may_enter = False
        if not incoming.data:
            return self._conversation.end()
        data = bytes(incoming.data)
        incoming.data.clear()
        transcript.received(data)
        return self._conversation.receive(data)

    def close(self) -> None:
        """Close the channel; nothing is waited for."""
        self._channel.close()
