"""An appliance on the network: SSH server, TLS ports, reboots. One `Node` per appliance, all on one loop."""

import asyncio
import hmac
import itertools
import socket
import time
from dataclasses import dataclass, field
from functools import partial

import asyncssh

from simulator import database_operations
from simulator.appliance import Appliance, CommandFailed
from simulator.commandlog import CommandLog
from simulator.console import Script
from simulator.faults import FaultKind
from simulator.listeners import Listeners
from simulator.ports import Port
from simulator.service_commands import start, stop
from simulator.sftp import FlatSFTP
from simulator.shell import Shell

SSH_PORT = 2222
_sessions = itertools.count(1)


class _Login(asyncssh.SSHServer):
    """The login of one connection: password only, with lock-out (S24)."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.session = f"c{next(_sessions)}"
        self.connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, so that a reboot can cut it."""
        self.connection = conn
        conn.set_extra_info(simulator_session=self.session)
        self._node.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        """Forget the connection."""
        if self.connection is not None:
            self._node.connections.discard(self.connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        """Ask for a password, always."""
        return True

    def password_auth_supported(self) -> bool:
        """Offer passwords."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Check the password and write the login to the log, without it."""
        accepted = self._node.check_password(username, password)
        self._node.log.event(
            node=self._node.appliance.name,
            session=self.session,
            kind="login" if accepted else "login-refused",
            text=username,
            outcome="ok" if accepted else "failure",
        )
        return accepted


@dataclass(kw_only=True)
class Node:
    """One appliance and everything of it that is on the network."""

    appliance: Appliance
    log: CommandLog
    username: str
    password: str = field(repr=False)
    host_key: asyncssh.SSHKey = field(repr=False)
    banner: str
    reboot_s: float
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    listeners: Listeners = field(init=False)
    _port: Port | None = None
    _offered_key: asyncssh.SSHKey | None = field(default=None, repr=False)
    _other_key: asyncssh.SSHKey | None = field(default=None, repr=False)
    _refusals: int = 0
    _locked_until: float = 0.0
    _rebooting: set[asyncio.Task[None]] = field(default_factory=set)
    _left: bool = False

    def __post_init__(self) -> None:
        """Make the listeners, and give the appliance its ways to the network."""
        self.listeners = Listeners(appliance=self.appliance, probed=self._probed)
        self.appliance.changed = self.reconcile
        self.appliance.reboot = self.reboot

    @property
    def public_host_key(self) -> str:
        """The host key as it should be, in OpenSSH's form: `ssh-ed25519 AAAA...`."""
        return " ".join(self.host_key.export_public_key("openssh").decode().split()[:2])

    def _probed(self, endpoint: str, outcome: str) -> None:
        self.log.event(node=self.appliance.name, session="", kind="probe", text=endpoint, outcome=outcome)

    def check_password(self, username: str, password: str) -> bool:
        """Tell whether the login is accepted; counts refusals towards a lock-out if that fault is there."""
        name, event = self.appliance.name, f"login {username}"
        lockout = self.appliance.faults.first(FaultKind.LOCKOUT, name, event)
        if lockout is not None and time.monotonic() < self._locked_until:
            return False
        right = username == self.username and hmac.compare_digest(password, self.password)
        refused = bool(self.appliance.faults.use({FaultKind.WRONG_PASSWORD}, name, event))
        if right and not refused:
            self._refusals = 0
            return True
        self._refusals += 1
        if lockout is not None and self._refusals >= (lockout.count or 3):
            self._locked_until = time.monotonic() + (900 if lockout.seconds is None else lockout.seconds)
            self._refusals = 0
        return False

    def reconcile(self) -> None:
        """Make ports and host key agree with services and faults; a node that has left the network opens none again."""
        if self._left:  # a command that was still at work when the fleet was stopped ends after that
            return
        faults, name = self.appliance.faults, self.appliance.name
        unreachable = faults.first(FaultKind.UNREACHABLE, name, "ssh") is not None
        wanted = self._wanted_key()
        if self._port is not None and (self.appliance.away or unreachable or self._offered_key is not wanted):
            self._port.close()
            self._port = None
            if self.appliance.away or unreachable:
                self._cut_all()
        if self._port is None and not (self.appliance.away or unreachable):
            self._listen_ssh()
        self.listeners.reconcile(away=self.appliance.away)

    def _wanted_key(self) -> asyncssh.SSHKey:
        changed = self.appliance.faults.first(FaultKind.HOST_KEY_CHANGE, self.appliance.name, "")
        if changed is None:
            return self.host_key
        if self._other_key is None:
            self._other_key = asyncssh.generate_private_key("ssh-ed25519")
        return self._other_key

    def _listen_ssh(self) -> None:
        key = self._wanted_key()
        options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Login(self),
            server_host_keys=[key],
            process_factory=self._serve,
            sftp_factory=self._sftp,
            encoding=None,
            line_editor=False,
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            kbdint_auth=False,  # else one wrong password would be counted twice
            compression_algs=None,
            login_timeout=30,
        )
        self._port = Port(self.appliance.address, SSH_PORT, partial(_run_ssh, options))
        self._offered_key = key

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        shell = Shell(
            appliance=self.appliance,
            log=self.log,
            session=process.get_extra_info("connection").get_extra_info("simulator_session"),
            after_command=self.reconcile,
            reboot=self.reboot,
        )
        await shell.interact(process, self.banner)

    def _sftp(self, channel: "asyncssh.SSHServerChannel[bytes]") -> FlatSFTP:
        session = channel.get_connection().get_extra_info("simulator_session")
        return FlatSFTP(channel, self.appliance, self.log, session)

    def reboot(self, seconds: float | None = None) -> None:
        """Go away for *seconds*; files and settings are kept, services come back with what is configured."""
        task = asyncio.get_running_loop().create_task(self._reboot(self.reboot_s if seconds is None else seconds))
        self._rebooting.add(task)
        task.add_done_callback(self._rebooting.discard)

    async def _reboot(self, seconds: float) -> None:
        self.appliance.away = True
        self._cut_all()
        self.reconcile()
        await database_operations.end(self.appliance)
        await asyncio.sleep(seconds)
        self.appliance.hostname = self.appliance.next_hostname or self.appliance.hostname
        for service in self.appliance.services.values():
            stop(service)
            if service.enabled:
                try:
                    start(self.appliance, service, Script())
                except CommandFailed:
                    continue  # it stays down, as after a refused `enable`
        self.appliance.away = False
        self.reconcile()
        database_operations.booted(self.appliance)

    def _cut_all(self) -> None:
        for connection in tuple(self.connections):
            connection.abort()

    async def close(self) -> None:
        """Leave the network."""
        self._left = True
        for task in tuple(self._rebooting):
            task.cancel()
        await asyncio.gather(*self._rebooting, return_exceptions=True)
        await database_operations.end(self.appliance, for_good=True)
        if self._port is not None:
            await self._port.finish()
            self._port = None
        self._cut_all()
        await self.listeners.close()


async def _run_ssh(options: asyncssh.SSHServerConnectionOptions, client: socket.socket) -> None:
    """Let a client log in; afterwards the connection looks after itself."""
    try:
        await asyncssh.run_server(client, config=None, options=options)
    except (asyncssh.Error, OSError):
        client.close()
    except asyncio.CancelledError:
        client.close()
        raise
