"""The shell an SSH client sees: prompt, echo, line editing, Ctrl-C, and the faults that happen to commands.

With a pseudo-terminal, typed characters are echoed and lines end in CR LF; without one (a pipe) nothing is echoed.
Lines typed or pasted while a command runs wait for it (S21). Ctrl-C ends the running command or drops the line.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import asyncssh

from simulator.appliance import Appliance, Outcome
from simulator.commandlog import CommandLog
from simulator.faults import ON_COMMAND, Fault, FaultKind

_CUTTING = (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.REBOOT)
_CTRL_C, _CTRL_D, _ESCAPE, _BACKSPACE = 3, 4, 27, (8, 127)


class Disconnected(Exception):
    """The client has gone, or its connection was cut."""


class Terminal:
    """One SSH channel as a console: bytes in and out."""

    def __init__(self, process: "asyncssh.SSHServerProcess[bytes]", user: str, peer: str) -> None:
        self.user = user
        self.peer = peer
        self.running: asyncio.Task[Outcome] | None = None
        self.interruptible = True
        self.endless = False  # the running command ends when the client goes; others are carried out all the same
        self._process = process
        self._pty = process.term_type is not None
        self._input = bytearray()
        self._arrived = asyncio.Event()
        self._eof = False
        self._after_return = False
        self._muted = False
        self._held = ""

    async def pump(self) -> None:
        """Read the channel until its end; Ctrl-C is acted upon at once."""
        while not self._eof:
            try:
                data = await self._process.stdin.read(65536)
            except asyncssh.TerminalSizeChanged:
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                data = bytes([_CTRL_C])
            except (asyncssh.Error, OSError):
                data = b""
            if not data:
                self._eof = True
            elif _CTRL_C in data and self.running is not None:
                if self.interruptible:
                    self.running.cancel()
                self._input.clear()
            else:
                self._input += data
            self._arrived.set()
        await self._process.channel.wait_closed()
        if self.running is not None and self.endless:
            self.running.cancel()

    def write(self, text: str) -> None:
        """Print *text*, unless the reply is being held back."""
        if self._muted:
            self._held += text
        else:
            self._send(text.encode())

    def hold_back(self) -> None:
        """From now on keep what is printed; it is never sent unless a question makes it visible."""
        self._muted = True

    def _send(self, data: bytes) -> None:
        if self._pty:
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are; what is printed after the client has gone is lost."""
        with suppress(OSError):
            self._process.stdout.write(data)

    async def _byte(self) -> int:
        while not self._input:
            if self._eof:
                raise Disconnected
            self._arrived.clear()
            await self._arrived.wait()
        return self._input.pop(0)

    async def key(self) -> str:
        """Return one key; what was printed before is shown first."""
        if self._held:
            self._send(self._held.encode())
            self._held = ""
        return chr(await self._byte())

    async def secret(self) -> str:
        """Return a line typed without echo."""
        line = await self.line(echo=False)
        self.write("\n")
        return line or ""

    async def line(self, *, echo: bool = True) -> str | None:
        """Return the next line; None after Ctrl-D on an empty line. Raises: Disconnected."""
        typed = bytearray()
        shown = self._send if echo and self._pty else (lambda _: None)
        while True:
            byte = await self._byte()
            after_return, self._after_return = self._after_return, byte == 13
            if byte == 10 and after_return:
                continue
            if byte in {10, 13}:
                shown(b"\n")
                return typed.decode(errors="replace")
            if byte == _CTRL_D and not typed:
                return None
            if byte == _CTRL_C:
                shown(b"^C\n")
                return ""
            if byte in _BACKSPACE:
                if typed:
                    typed.pop()
                    shown(b"\b \b")
            elif byte == _ESCAPE:
                await self._escape_sequence()
            elif byte >= 32:
                typed.append(byte)
                shown(bytes([byte]))

    async def _escape_sequence(self) -> None:
        """Swallow the rest of an arrow key or the like."""
        if await self._byte() in b"[O":
            while not 64 <= await self._byte() <= 126:
                pass


class Shell:
    """The session of one client on one appliance."""

    def __init__(
        self,
        *,
        appliance: Appliance,
        log: CommandLog,
        session: str,
        after_command: Callable[[], None],
        reboot: Callable[[float | None], None],
    ) -> None:
        self._appliance = appliance
        self._log = log
        self._session = session
        self._after_command = after_command
        self._reboot = reboot

    async def interact(self, process: "asyncssh.SSHServerProcess[bytes]", banner: str) -> None:
        """Serve the client of *process* until it leaves: a shell, or one command on an exec channel."""
        connection = process.get_extra_info("connection")
        host, port = connection.get_extra_info("peername")[:2]
        terminal = Terminal(process, process.get_extra_info("username"), f"{host}:{port}")
        pump = asyncio.create_task(terminal.pump())
        status = 0
        try:
            if process.command is not None:
                status = 0 if await self._command(process.command, terminal, connection) else 1
            else:
                terminal.write(banner)
                await self._loop(terminal, connection)
        except Disconnected:
            pass
        finally:
            pump.cancel()
            with suppress(OSError):
                process.exit(status)

    async def _loop(self, terminal: Terminal, connection: asyncssh.SSHServerConnection) -> None:
        while True:
            terminal.write(self._appliance.say("shell.prompt", hostname=self._appliance.hostname))
            line = await terminal.line()
            if line is None or line.strip() == "exit":
                return
            if line.strip():
                await self._command(line.strip(), terminal, connection)

    async def _command(self, line: str, terminal: Terminal, connection: asyncssh.SSHServerConnection) -> bool:
        """Carry out one line with its faults; return whether it went well. Raises: Disconnected: it was cut."""
        node = self._appliance.name
        shown = self._appliance.masked(line)
        begun = self._log.begin(node=node, session=self._session, kind="command", text=shown)
        faults = {fault.kind: fault for fault in self._appliance.faults.use(ON_COMMAND, node, line)}
        endless_hang = FaultKind.HANG in faults and faults[FaultKind.HANG].seconds is None
        terminal.interruptible = FaultKind.HANG not in faults
        terminal.endless = endless_hang or self._appliance.is_endless(line)
        terminal.running = asyncio.create_task(self._faulty(line, terminal, faults))
        outcome = "error"
        try:
            outcome = (await terminal.running).value
        except asyncio.CancelledError:
            outcome = "interrupted"
            if _being_cancelled():
                raise
            terminal.write(self._appliance.say("shell.interrupted"))
        except Disconnected:
            outcome = "disconnected"
            raise
        finally:
            terminal.running = None
            cutting = [kind for kind in faults if kind in _CUTTING]
            self._log.end(begun, outcome=cutting[0] if cutting else outcome, faults=tuple(faults))
            self._after_command()
            if cutting:
                connection.abort()
        if self._begins_reboot(faults) or cutting:
            raise Disconnected
        return outcome == Outcome.OK.value

    def _begins_reboot(self, faults: Mapping[FaultKind, Fault]) -> bool:
        """Begin a reboot if a fault or the command itself wants one; no prompt is shown after that."""
        if FaultKind.REBOOT in faults:
            self._reboot(faults[FaultKind.REBOOT].seconds)
            return True
        if self._appliance.reboot_requested:
            self._appliance.reboot_requested = False
            self._reboot(None)
            return True
        return False

    async def _faulty(self, line: str, terminal: Terminal, faults: dict[FaultKind, Fault]) -> Outcome:
        if FaultKind.CUT_BEFORE in faults:
            raise Disconnected
        if FaultKind.HANG in faults:
            seconds = faults[FaultKind.HANG].seconds
            await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
        if FaultKind.SLOW in faults:
            await asyncio.sleep(faults[FaultKind.SLOW].seconds or 0)
        if FaultKind.QUESTION in faults:
            terminal.write(faults[FaultKind.QUESTION].text or self._appliance.say("question"))
            answer = await terminal.key()
            terminal.write("\n")
            if answer != "Y":
                return Outcome.FAILURE
        if FaultKind.FAILURE in faults:
            terminal.write(self._appliance.say("shell.fault", text=faults[FaultKind.FAILURE].text or "internal error"))
            return Outcome.FAILURE
        if FaultKind.CUT_AFTER in faults or FaultKind.REBOOT in faults:
            terminal.hold_back()
        garbage = faults.get(FaultKind.GARBAGE)
        if garbage is not None:
            self._stray(terminal, garbage)
        outcome = await self._appliance.execute(line, terminal)
        if garbage is not None:
            self._stray(terminal, garbage)
        return outcome

    def _stray(self, terminal: Terminal, garbage: Fault) -> None:
        """Print a log line of another program and a few bytes that are no text."""
        appliance = self._appliance
        line = appliance.say(
            "syslog.garbage", utc=appliance.now(), hostname=appliance.hostname, address=appliance.address
        )
        terminal.write(line if garbage.text is None else garbage.text)
        if garbage.text is None:
            terminal.send_raw(b"\x00\xff\x07\r\n")


def _being_cancelled() -> bool:
    """Tell whether this task itself is being cancelled (the fleet stops), and not only the command it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
