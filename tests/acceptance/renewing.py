"""What acceptance tests share: a renewal driven through the command line, and the simulator's log beside its plan.

The command line runs in the test's own process here (Typer's runner), which gives the same words and exit codes as
`Engine.cli` without starting Python each time. What was sent to a server is read from the simulator's log only.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import yaml
from acceptance_engine import Engine
from typer.testing import CliRunner

from api.cli import app

WAITS, FAILED, WRONG_INPUT, STOPPED = 3, 1, 2, 4
_READING = re.compile(
    r"version|date|user list|ipv4 \w+|hostname|dns|ntp status|license|database cluster status"
    r"|pki (list|inspect|match|verify)( .*)?"
    r"|webadmin|callbridge|webbridge3?|xmpp|turn|loadbalancer( list)?|recorder|streamer|scheduler|uploader|tls( \w+)?"
    r"|trunk( list)?|h323_gateway|xmpp cluster status|xmpp callbridge list|callbridge (ucm|imps|trust)( \w+)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a command ended: exit code, results, and what stood on standard error."""

    code: int
    out: str
    err: str


def say(engine: Engine, *words: str | Path) -> Said:
    """Run `certbridge words…` in this process with the environment of *engine*."""
    done = CliRunner().invoke(app, [str(word) for word in words], env=engine.environment, prog_name="certbridge")
    return Said(code=done.exit_code, out=done.stdout, err=done.stderr)


def must(engine: Engine, *words: str | Path, code: int = 0) -> Said:
    """Run `certbridge words…`, which must end with *code*."""
    said = say(engine, *words)
    assert said.code == code, f"certbridge {words} ended with {said.code}\n{said.out}\n{said.err}"
    return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """One run, and what a person does to it."""

    engine: Engine
    run: str

    def watch(self, code: int) -> Said:
        """Follow the run until it ends or waits, which must be with *code*."""
        return must(self.engine, "runs", "watch", self.run, code=code)

    def approve(self, *words: str) -> Said:
        """Approve the gates that are open."""
        return must(self.engine, "gates", "approve", self.run, "--yes", *words)

    def resume(self) -> Said:
        """Resume the run."""
        return must(self.engine, "runs", "resume", self.run)

    def to_go(self) -> None:
        """Approve the requests; the issuer signs, the certificates are delivered, and the run stands before `go`."""
        self.watch(WAITS)
        self.approve("--gate", "sign")
        self.watch(WAITS)

    def to_the_end(self) -> None:
        """Approve both gates and wait until all is proved."""
        self.to_go()
        self.approve("--gate", "go")
        self.watch(0)

    def shown(self) -> dict[str, Any]:
        """Return what `runs show -o json` says."""
        shown: dict[str, Any] = json.loads(must(self.engine, "runs", "show", self.run, "-o", "json").out)
        return shown

    def lane(self, name: str = "") -> dict[str, Any]:
        """Return one lane of `shown`, the only one without *name*."""
        lanes: list[dict[str, Any]] = [one for one in self.shown()["lanes"] if name in {"", one["name"]}]
        (lane,) = lanes
        return lane

    def part(self, part_id: str) -> dict[str, Any]:
        """Return a step, barrier or gate of `shown` by its id."""
        (part,) = [part for lane in self.shown()["lanes"] for part in lane["parts"] if part["id"] == part_id]
        found: dict[str, Any] = part
        return found

    def plan(self) -> dict[str, Any]:
        """Return the plan as the journal keeps it."""
        return dict(self.engine.journal.plan(self.run))


def begin(engine: Engine, *words: str | Path) -> Renewal:
    """Start a run of what *words* select and return it at once."""
    return Renewal(engine=engine, run=must(engine, "run", "--yes", *words).out.split()[0])


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────────────
def rewrite(engine: Engine, change: Callable[[dict[str, Any]], None]) -> None:
    """Let *change* edit the engine's inventory as a person would."""
    path = engine.out / "fleet.yaml"
    written = yaml.safe_load(path.read_text())
    change(written)
    path.write_text(yaml.safe_dump(written, sort_keys=False))


def cluster_of(inventory: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a cluster of an inventory that is being rewritten."""
    return next(one for one in inventory["clusters"] if one["name"] == name)


def nodes_of(engine: Engine, cluster: str) -> tuple[str, ...]:
    """Return the names of the nodes of *cluster* in the order of the inventory."""
    inventory = yaml.safe_load((engine.out / "fleet.yaml").read_text())
    return tuple(node["name"] for node in cluster_of(inventory, cluster)["nodes"])


# ── the plan and the log, side by side ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that changes a server: as the plan says it, or as the simulator saw it (then with its time)."""

    kind: str
    text: str
    stage: int = 0
    at: float = 0.0
    session: str = ""

    @property
    def said(self) -> tuple[str, str]:
        """What is compared."""
        return self.kind, self.text


def steps_of(plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of a plan's JSON in the order in which they stand in its tree."""

    def walk(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if part["is"] == "step":
            yield dict(part)
        for child in part.get("parts", ()):
            yield from walk(child)

    for lane in plan["lanes"]:
        yield from walk(lane["tree"])


def planned(plan: Mapping[str, Any], node: str) -> list[Change]:
    """Return the changes that the plan shows for *node*, in order."""
    names = {"command": "command", "upload": "upload", "rename": "rename", "delete": "remove"}
    return [
        Change(kind=names[line["kind"]], text=line["text"].replace(" -> ", " "), stage=step["stage"])
        for step in steps_of(plan)
        if step["node"] == node
        for line in step["lines"]
        if line["kind"] in names
    ]


def planned_fetches(plan: Mapping[str, Any], node: str) -> set[str]:
    """Return the files that the plan shows as fetched from *node*."""
    return {
        line["text"]
        for step in steps_of(plan)
        if node == (step["source"] or step["node"])
        for line in step["lines"]
        if line["kind"] == "fetch"
    }


def seen(engine: Engine, node: str, *, after: int = 0) -> list[Change]:
    """Return what the simulator saw that changes *node*, in order; *after* is the number of a record of its log."""
    return [
        Change(kind=record["kind"], text=record["text"], at=record["monotonic"], session=record["session"])
        for record in engine.log(node=node, phase="begin")
        if record["number"] > after
        and record["kind"] in {"command", "upload", "rename", "remove"}
        and not (record["kind"] == "command" and _READING.fullmatch(record["text"]))
    ]


def marked(engine: Engine) -> int:
    """Return the number of the log's last record."""
    return max((record["number"] for record in engine.log()), default=0)


def count(changes: Sequence[Change], beginning: str) -> int:
    """Return how many of *changes* begin with these words."""
    return sum(change.text.startswith(beginning) for change in changes)


def same_as_planned(engine: Engine, plan: Mapping[str, Any], node: str, after: int) -> None:
    """Compare changes and guarded downloads of *node* in the simulator's log with the plan."""
    assert [one.said for one in seen(engine, node, after=after)] == [one.said for one in planned(plan, node)]
    fetched = {one["text"] for one in engine.log(node=node, kind="download") if one["number"] > after}
    uploaded = {one.text for one in planned(plan, node) if one.kind == "upload"}  # each is read back, keys too
    guarded = {name for name in fetched - uploaded if name.endswith((".key", ".bak"))}
    assert guarded == {name for name in planned_fetches(plan, node) if name.endswith((".key", ".bak"))}


# ── what a person does at a server's own console ─────────────────────────────────────────────────────────────────────
def password(engine: Engine) -> str:
    """Return the password of the simulated servers."""
    return str(yaml.safe_load((engine.out / "credentials.yaml").read_text())["cms"]["password"])


def at_console(engine: Engine, node: str, *lines: str, files: Mapping[str, bytes] | None = None) -> None:
    """Type *lines* on *node* and put *files* there, as a person with an SSH client of their own."""

    async def work() -> None:
        async with _connected(engine, node) as connection:
            for line in lines:
                await asyncio.wait_for(connection.run(line), 10)
            if files:
                async with connection.start_sftp_client() as sftp:
                    for name, data in files.items():
                        async with sftp.open(name, "wb") as file:
                            await file.write(data)

    asyncio.run(work())


def delete_file(engine: Engine, node: str, name: str) -> None:
    """Delete a file on *node*, as a person would."""

    async def work() -> None:
        async with _connected(engine, node) as connection, connection.start_sftp_client() as sftp:
            await sftp.remove(name)

    asyncio.run(work())


def read_file(engine: Engine, node: str, name: str) -> bytes:
    """Return the content of a file on *node*."""

    async def work() -> bytes:
        async with (
            _connected(engine, node) as connection,
            connection.start_sftp_client() as sftp,
            sftp.open(name, "rb") as file,
        ):
            return bytes(await file.read())

    return asyncio.run(work())


@asynccontextmanager
async def _connected(engine: Engine, node: str) -> Any:
    inventory = yaml.safe_load((engine.out / "fleet.yaml").read_text())
    (address,) = [
        one["address"] for cluster in inventory["clusters"] for one in cluster["nodes"] if one["name"] == node
    ]
    async with asyncssh.connect(
        address,
        2222,
        username="admin",
        password=password(engine),
        known_hosts=None,
        client_keys=None,
        agent_path=None,
        config=None,
    ) as connection:
        yield connection


def wake_credential(engine: Engine) -> Said:
    """Correct the credential as a person does: the file is right again, then `doctor` wakes it."""
    shutil.copyfile(engine.out / "credentials.yaml", engine.state / "credentials.yaml")
    return say(engine, "doctor", "--credential", "cms")
