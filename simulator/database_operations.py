"""What `initialize`, `join`, `connect`, `remove` and `upgrade_schema` do, and how long they take.

They are asynchronous (MMP reference 11): the command starts one and returns, the status shows how it stands. In the
middle of an operation it is decided whether it goes well; up to then nothing has changed. At its end the call bridge of
the node has been restarted (MMP reference 3.1), which drops its calls.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator import database_certificates
from simulator.appliance import Appliance, CommandFailed
from simulator.commandlog import Record
from simulator.console import Script
from simulator.database import MOST_JOINED, Progress, Role, fresh_data
from simulator.database_status import in_sync
from simulator.faults import Fault, FaultKind
from simulator.service_commands import start, stop
from simulator.services import Service

_CALLBRIDGE_AWAY = 0.2  # the last part of an operation: the call bridge is down
_MIDDLE = 0.5


class OperationFailed(Exception):
    """Ends an operation; the argument is the text of the ERROR row."""


@dataclass(kw_only=True)
class Operation:
    """One operation on one appliance, from its start to its end."""

    appliance: Appliance
    verb: str
    target: str | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    survives_reboot: bool = False
    booted: asyncio.Event = field(default_factory=asyncio.Event)  # set when the appliance is back
    task: "asyncio.Task[None] | None" = None

    @property
    def text(self) -> str:
        """The operation as the command line says it: "join 10.48.36.61"."""
        return self.verb if self.target is None else f"{self.verb} {self.target}"

    async def run(self, begun: Record | None) -> None:
        """Go through the operation and leave the node as its end, good or bad, wants it."""
        own, log = self.appliance.database, self.appliance.database_cluster.log
        outcome = "lost"
        try:
            await self._work()
            own.progress, outcome = Progress.SUCCESS, "ok"
        except OperationFailed as failed:
            own.error, outcome = str(failed), "failure"
        except asyncio.CancelledError:  # a reboot, or the fleet stops
            own.error = self.appliance.say("database.lost")
            raise
        finally:
            if outcome != "ok":
                self._spoilt()
            if log is not None and begun is not None:
                log.end(begun, outcome=outcome)
            self.appliance.operation = None
            self.appliance.changed()

    def _spoilt(self) -> None:
        """Leave the node as it was before; only a copy that was cut short has destroyed what was there."""
        own = self.appliance.database
        own.progress = Progress.FAILED
        if self.verb == "join" and own.syncing:
            own.leave()
            own.data, own.borrowed = fresh_data(), False

    async def _work(self) -> None:
        problem = self._problem()
        await self._pass(_MIDDLE)
        await self._meet_faults()
        problem = problem or self._problem()
        if problem is not None:
            raise OperationFailed(problem)
        if self.verb == "join":
            self._begin_copy()
        await self._pass(1 - _MIDDLE - _CALLBRIDGE_AWAY)
        restarted = None if self.verb == "upgrade_schema" else self._stop_callbridge()
        await self._pass(_CALLBRIDGE_AWAY)
        try:
            self._finish()
        finally:
            if restarted is not None:
                self._start_callbridge(restarted)

    async def _pass(self, part: float) -> None:
        """Let a part of the operation's time go by."""
        cluster = self.appliance.database_cluster
        await asyncio.sleep(cluster.real_seconds(cluster.seconds[self.verb] * part))

    # what may go wrong

    def _problem(self) -> str | None:
        """Return why the operation cannot go well, as the ERROR row says it, or None."""
        appliance, own = self.appliance, self.appliance.database
        if self.verb == "remove":
            return None
        if self.verb == "upgrade_schema":
            good = own.role is Role.PRIMARY and all(
                in_sync(m) for m in appliance.database_cluster.joined(own.primary or "")
            )
            return None if good else appliance.say("database.schema")
        found = database_certificates.problem(own.files, self.contents, appliance.now())
        if found is not None:
            return appliance.say(found[0], file=found[1])
        return None if self.target is None else self._target_problem(self.target)

    def _target_problem(self, target: str) -> str | None:
        """Return why *target* cannot be joined or connected to: it must be another node and a Connected Primary."""
        appliance, cluster = self.appliance, self.appliance.database_cluster
        primary = cluster.appliances.get(target)
        if primary is None or primary is appliance or not cluster.is_primary(target):
            return appliance.say("database.no-primary", address=target)
        theirs = primary.database
        if not database_certificates.same_authority(
            theirs.taken[theirs.files[-1]], self.contents[appliance.database.files[-1]]
        ):
            return appliance.say("database.other-authority", address=target)
        if not cluster.talks(appliance, primary):
            return appliance.say("database.no-primary", address=target)
        others = [member for member in cluster.joined(target) if member is not appliance]
        if self.verb == "join" and len(others) >= MOST_JOINED:
            return appliance.say("database.full", most=MOST_JOINED)
        return None

    async def _meet_faults(self) -> None:
        kinds = (FaultKind.DATABASE_STUCK, FaultKind.DATABASE_REBOOT, FaultKind.DATABASE_FAILS)
        for fault in self.appliance.faults.use(kinds, self.appliance.name, self.text):
            match fault.kind:
                case FaultKind.DATABASE_STUCK if fault.seconds is None:
                    await asyncio.Event().wait()
                case FaultKind.DATABASE_STUCK:
                    await asyncio.sleep(self.appliance.database_cluster.real_seconds(fault.seconds or 0))
                case FaultKind.DATABASE_REBOOT:
                    await self._reboot(fault)
                case _:
                    raise OperationFailed(fault.text or self.appliance.say("database.failed"))

    async def _reboot(self, fault: Fault) -> None:
        """Reboot in the middle: unless the fault says "continues" this task is cancelled while it waits here."""
        self.survives_reboot = fault.text == "continues"
        self.appliance.reboot(fault.seconds)
        await self.booted.wait()
        self.survives_reboot = False

    # what it does

    def _begin_copy(self) -> None:
        """Throw the local data away and begin to copy the primary's (S1: `join` overwrites)."""
        own, target = self.appliance.database, self.target or ""
        own.taken = self.contents
        own.enter(Role.REPLICA, target)
        own.data, own.joined_from = self.appliance.database_cluster.appliances[target].database.data, target
        own.syncing = own.borrowed = True
        self.appliance.changed()

    def _finish(self) -> None:
        own, address = self.appliance.database, self.appliance.address
        match self.verb:
            case "initialize":
                own.taken = self.contents
                own.enter(Role.PRIMARY, address)
                own.borrowed, own.joined_from = False, None
            case "join":
                problem = self._target_problem(self.target or "")
                if problem is not None:
                    raise OperationFailed(problem)
                own.syncing = False
            case "connect":
                own.taken = self.contents
                own.enter(Role.CONNECTED, self.target or "")
                own.borrowed = True
            case "remove":
                own.leave()

    def _stop_callbridge(self) -> Service | None:
        service = self.appliance.services.get("callbridge")
        if service is None or not any(endpoint.running for endpoint in service.endpoints.values()):
            return None
        stop(service)
        self.appliance.database.callbridge_restarts += 1
        self.appliance.changed()
        return service

    def _start_callbridge(self, service: Service) -> None:
        try:
            start(self.appliance, service, Script())
        except CommandFailed:
            return  # its settings are not good any more: it stays down, as after a refused `restart`


def begin(appliance: Appliance, verb: str, target: str | None = None) -> None:
    """Start an operation and return; the files set by `certs` are taken up now. Needs a running event loop."""
    own, log = appliance.database, appliance.database_cluster.log
    contents = {name: appliance.files[name].data for name in own.files if name in appliance.files}
    operation = Operation(appliance=appliance, verb=verb, target=target, contents=contents)
    own.last_command, own.progress, own.error = operation.text, Progress.IN_PROGRESS, None
    begun = None if log is None else log.begin(node=appliance.name, session="", kind="database", text=operation.text)
    operation.task = asyncio.get_running_loop().create_task(operation.run(begun))
    appliance.operation = operation


async def end(appliance: Appliance, *, for_good: bool = False) -> None:
    """End what is under way, for the appliance goes down; unless it survives reboots and this is not *for_good*."""
    operation = appliance.operation
    if operation is None or operation.task is None or (operation.survives_reboot and not for_good):
        return
    operation.task.cancel()
    await asyncio.gather(operation.task, return_exceptions=True)


def booted(appliance: Appliance) -> None:
    """Tell an operation that survived the reboot to go on."""
    if appliance.operation is not None:
        appliance.operation.booted.set()


async def idle(appliance: Appliance) -> None:
    """Wait until no operation runs on *appliance*."""
    if appliance.operation is not None and appliance.operation.task is not None:
        await asyncio.wait([appliance.operation.task])
