"""A session: what a step may do on a node, and nothing else.

Reading commands are always allowed; a changing line, and the fetching of a private key, only when it stands in the plan
(`allowed`). Whatever ends without an answer is OutcomeUnknown, and the step then reads the server before it does
anything more (DESIGN.md sections 5 and 6). Journalling is the step's business, connecting that of `connections`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from workers.files import RemoteFile, Uploaded
from workers.transcript import Transcript
from workflows.errors import NotInPlan, OutcomeUnknown, TransferMismatch, UnexpectedReply
from workflows.mmp.commands import Command, command_of
from workflows.mmp.conversation import Question
from workflows.mmp.replies import Verdict
from workflows.plan import Line, LineKind

if TYPE_CHECKING:
    from workers.connections import Link

T = TypeVar("T")


class NodeSession:
    """One step's use of a node's connection; made by `Connections.session`."""

    def __init__(self, link: Link, transcript: Transcript, allowed: tuple[Line, ...]) -> None:
        self._link = link
        self._allowed = allowed
        self._node = link.node.name
        self.transcript = transcript
        """`transcript.digest()` is for the journal."""

    @property
    def hostname(self) -> str:
        """The server's host name as its prompt shows it; "" before the first command."""
        return self._link.hostname

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def ask(self, command: Command[T]) -> T:
        """Return what the server says to a reading *command*; asked once more when the connection is cut.

        Raises: NotInPlan: the command changes something. OutcomeUnknown: cut twice, or no answer in time.
        UnexpectedQuestion, UnexpectedReply, and all that a login can raise.
        """
        line = command.line()
        if command.changes:
            raise NotInPlan(f"`{line}` changes the server; only `change` sends such lines", node=self._node)

        async def read() -> T:
            shell = await self._link.shell(self.transcript)
            reply = await shell.exchange(line, limit_s=self._limit_s(command), transcript=self.transcript)
            try:
                return command.parse(reply)
            except UnexpectedReply as error:
                text = self.transcript.redactor.redact(error.message)
                raise UnexpectedReply(text, remedy=error.remedy(), node=self._node, command=line) from None

        return await self._again_after_a_cut(read)

    async def ready(self, line: Line) -> None:
        """Be connected for *line* before it is journalled as sent: where no login was, no line can have gone out.

        Raises: all that a login can raise.
        """

        async def connect() -> None:
            if line.kind is LineKind.COMMAND:
                await self._link.shell(self.transcript)
            else:
                await self._link.files(self.transcript)

        await self._locked(connect)

    async def change(self, line: Line, *, before_sending: Callable[[], None] = lambda: None) -> Verdict:
        """Send a changing *line* of the plan, once, and return the verdict on its reply; a FAILURE is a verdict too.

        The question that the line names is answered with the answer it names; no other is. *before_sending* is asked
        when the login is behind us and the line goes out next; what it raises keeps it back.
        Raises: NotInPlan: before anything is sent. OutcomeUnknown: read the server. UnexpectedQuestion,
        UnexpectedReply, and all that a login can raise.
        """
        self._must_be_planned(line, LineKind.COMMAND)
        command = command_of(line.text)
        asked: list[Question] = []

        def answering(question: Question) -> str | None:
            asked.append(question)
            # One question, one answer: a second one is another question than the plan's.
            return line.answer if len(asked) == 1 and expects(line, question.text) else None

        async with self._link.lock:
            shell = await self._link.shell(self.transcript)
            before_sending()
            try:
                reply = await shell.exchange(
                    line.text, limit_s=self._limit_s(command), transcript=self.transcript, answering=answering
                )
            finally:
                self._link.drop_when_unusable()
        redact = self.transcript.redactor.redact
        try:
            verdict: Verdict = command.parse(reply)
        except UnexpectedReply as error:
            text, remedy = redact(error.message), error.remedy()
            raise UnexpectedReply(text, remedy=remedy, node=self._node, command=line.text) from None
        # What the server said goes into the journal, so a secret that it repeats is hidden here.
        failures = tuple(redact(one) for one in verdict.failures)
        return replace(verdict, text=redact(verdict.text), failures=failures)

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def listing(self) -> tuple[RemoteFile, ...]:
        """Return name and size of every file, by name. Raises: OutcomeUnknown, and all that a login can raise."""

        async def read() -> tuple[RemoteFile, ...]:
            return await (await self._link.files(self.transcript)).listing()

        return await self._again_after_a_cut(read)

    async def fetch(self, name: str) -> bytes:
        """Return the content of file *name*; private keys and backups only when a fetch of exactly it is in the plan.

        Raises: KeyGuarded: nothing was kept. CommandRejected: `data["missing"]` when there is no such file.
        OutcomeUnknown, and all that a login can raise.
        """
        planned = any(line.kind is LineKind.FETCH and line.text == name for line in self._allowed)

        async def read() -> bytes:
            files = await self._link.files(self.transcript)
            return await files.fetch(name, self.transcript, guarded=not planned)

        return await self._again_after_a_cut(read)

    async def upload(
        self, line: Line, data: bytes, *, before_each_write: Callable[[], None] = lambda: None
    ) -> Uploaded:
        """Write *data* under the name in *line*, read it back, and return what that proved.

        When it differs, or the connection was cut, the file is overwritten once more: nothing refers to it yet. That
        makes up to four writes with logins between them, so *before_each_write* is asked each time; what it raises
        ends the upload.
        Raises: NotInPlan: before anything is sent. TransferMismatch: it differs again. CommandRejected: the server
        refused (disk full, name not allowed). OutcomeUnknown: cut again. And all that a login can raise.
        """
        self._must_be_planned(line, LineKind.UPLOAD)

        async def write() -> Uploaded | None:
            files = await self._link.files(self.transcript)
            before_each_write()
            await files.write(line.text, data, self.transcript)
            return await files.matches(line.text, data, self.transcript)

        proved = await self._again_after_a_cut(write) or await self._again_after_a_cut(write)
        if proved is None:
            raise TransferMismatch(
                f"{line.text} was uploaded twice, and what was read back differs both times",
                node=self._node,
                file=line.text,
                remedy="Check the server's disk and the network between, then `certbridge runs resume RUN`.",
            )
        return proved

    async def holds(self, line: Line, data: bytes) -> bool:
        """Return whether the file that *line* uploads is there already and is *data*, keys too: nothing of it is kept.

        Raises: NotInPlan, OutcomeUnknown, and all that a login can raise. CommandRejected: there is no such file.
        """
        self._must_be_planned(line, LineKind.UPLOAD)

        async def read() -> Uploaded | None:
            return await (await self._link.files(self.transcript)).matches(line.text, data, self.transcript)

        found = await self._again_after_a_cut(read)
        return found is not None and found.read_back

    async def rename(self, line: Line, *, before_sending: Callable[[], None] = lambda: None) -> None:
        """Rename a file as *line* says ("old -> new"). Raises: NotInPlan, CommandRejected, OutcomeUnknown."""
        self._must_be_planned(line, LineKind.RENAME)
        old, _, new = line.text.partition(" -> ")

        async def rename() -> None:
            files = await self._link.files(self.transcript)
            before_sending()
            await files.rename(old, new, self.transcript)

        await self._locked(rename)

    async def delete(self, line: Line, *, before_sending: Callable[[], None] = lambda: None) -> None:
        """Delete the file in *line*. Raises: NotInPlan, CommandRejected, OutcomeUnknown."""
        self._must_be_planned(line, LineKind.DELETE)

        async def delete() -> None:
            files = await self._link.files(self.transcript)
            before_sending()
            await files.delete(line.text, self.transcript)

        await self._locked(delete)

    def invalidate(self) -> None:
        """Drop the connection; the next use connects again (after a reboot, say)."""
        self._link.drop()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _must_be_planned(self, line: Line, kind: LineKind) -> None:
        if line.kind is not kind or line not in self._allowed:
            raise NotInPlan(f"`{line}` is not in the plan of this step; it was not sent", node=self._node)

    def _limit_s(self, command: Command[T]) -> float:
        return self._link.timings.command_s or command.timeout_s

    async def _locked(self, action: Callable[[], Awaitable[T]]) -> T:
        async with self._link.lock:
            try:
                return await action()
            finally:
                self._link.drop_when_unusable()

    async def _again_after_a_cut(self, action: Callable[[], Awaitable[T]]) -> T:
        """Carry out what may be done twice; again when the connection was cut, not when time was over."""
        try:
            return await self._locked(action)
        except OutcomeUnknown as error:
            if not error.data.get("cut"):
                raise
        return await self._locked(action)


def expects(line: Line, question: str) -> bool:
    """Return whether *question* is the one that *line* names.

    The wording of questions is only recalled (mmp-reference 1.3), so where both are "(Y/n)" questions that is enough;
    otherwise the text of the line must stand in the question, whatever the case and the blanks.
    """
    wanted, asked = (" ".join(text.replace("\\", "").split()).casefold() for text in (line.question, question))
    return bool(wanted) and (("(y/n)" in wanted and "(y/n)" in asked) or wanted in asked)
