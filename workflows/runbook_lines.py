"""The forms of a runbook's lines, one for each kind, so that a person reads them at a glance and a program can too.

    cmscore1> database cluster remove    (asks (Y/n): answer with a capital Y)     type it on that server
    cmscore1: sftp upload dbserver-1.key                                           transfer a file
    cmscore1? status shows: 10.1.1.1 (me) Connected Primary                        look first; stop where it is not so
        gives on cmscore1: Status Disabled                                         what the line above brings
        or, if it is back already: …                                               what it may show as well

What a status shows is told in terms: "; " is *and*. The rows are those of `database cluster status` (mmp-reference
3.3); `file` and `no file` are told by `pki list` or the SFTP listing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.plan import Lane, Line, LineKind, Step
from workflows.procedures.database_places import CONNECTED, NONE, PRIMARY

DISABLED = "Status Disabled"
REMOVE, INITIALIZE, JOIN, CONNECT = "database_remove", "database_initialize", "database_join", "database_connect"
ENTERS = frozenset({INITIALIZE, JOIN, CONNECT})
OPERATIONS = ENTERS | {REMOVE, "database_upgrade_schema"}
"""The actions whose last line begins something that the server goes on with by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the lines of a lane need to know of its cluster: the node whose data is kept, and each node's new files."""

    primary: str
    address: str
    files: Mapping[str, tuple[str, ...]]
    enters: Mapping[str, Step]

    @classmethod
    def of(cls, lane: Lane) -> Cluster:
        """Return the cluster that *lane* takes apart or puts together; a dissolution has no `enters`."""
        enters = {step.node: step for step in lane.steps() if step.action in ENTERS}
        removed = [step for step in lane.steps() if step.action == REMOVE and step.params["role"] == PRIMARY]
        primary, address = "", ""
        for step in enters.values():
            primary, address = step.params["primary_node"], step.params["primary"]
        if removed:
            primary, address = removed[0].node, removed[0].params["address"]
        files = {node: tuple(step.params["files"]) for node, step in enters.items()}
        return cls(primary=primary, address=address, files=files, enters=enters)

    def end_of(self, node: str) -> str:
        """Return what the status of *node* shows once it is in with its new files, "" when it is to stay out."""
        step = self.enters.get(node)
        if step is None:
            return ""
        return f"Certificates {' '.join(self.files[node])}; {self.gives(step.lines[-1])}"

    def gives(self, line: Line) -> str:
        """Return what *line* brings, in terms; "" for what only reads."""
        words = line.text.split()
        if line.kind is not LineKind.COMMAND:
            return {LineKind.UPLOAD: f"file {line.text}", LineKind.DELETE: f"no file {line.text}"}.get(line.kind, "")
        match line.content:
            case "set:certs":
                return f"Certificates {' '.join(words[3:])}"
            case "set:localnode":
                return f"Interface {words[-1]}"
            case "move:remove":
                return DISABLED
            case "move:initialize" | "move:join" | "move:connect":
                role = {"move:initialize": PRIMARY, "move:connect": CONNECTED}.get(line.content, "replica")
                return self.in_role(role)
            case "move:upgrade_schema":
                return f"Last command '{line.text}' (Success)"
        return "; ".join(f"file {name}" for name in files_made(line))

    def in_role(self, role: str) -> str:
        """Return what the status of a node in *role* shows when all is well."""
        return {
            NONE: DISABLED,
            PRIMARY: f"{self.address} (me) Connected Primary",
            CONNECTED: f"{self.address} Connected Primary; no (me)",
        }.get(role, f"(me) Connected Replica ( In Sync ); {self.address} Connected Primary")


def files_made(line: Line) -> tuple[str, ...]:
    """Return the files that a line leaves on its server."""
    words = line.text.split()
    if line.kind is LineKind.UPLOAD:
        return (line.text,)
    if line.kind is not LineKind.COMMAND or len(words) < 3:
        return ()
    endings = {
        ("pki", "csr"): ("key", "csr"),
        ("pki", "selfsigned"): ("key", "crt"),
        ("pki", "sign"): ("crt",),
        ("backup", "snapshot"): ("bak",),
    }.get((words[0], words[1]), ())
    return tuple(f"{words[2]}.{ending}" for ending in endings)


def step_lines(step: Step, cluster: Cluster, lines: Sequence[Line] = ()) -> Iterator[str]:
    """Yield the lines of *step* (or its lines back, given as *lines*) with what each gives, looks first."""
    for line in lines or step.lines:
        if line.content == "scratch":
            continue  # certbridge tries whether keys can be read; a person sees that when the first one is fetched
        if line.content in {"move:join", "move:connect"}:
            # To come in behind any node but the one whose data is kept could overwrite that data (mmp-reference 3.2).
            yield look(cluster.primary, cluster.in_role(PRIMARY))
        sealed = line.content.startswith("key:") and not step.source
        yield typed(step.node, line) + ("    (sealed in the vault of certbridge)" if sealed else "")
        if given := cluster.gives(line):
            yield from gives_lines(step.node, given, cluster.end_of(step.node) if line.content == "move:remove" else "")


def gives_lines(node: str, given: str, back_already: str = "") -> Iterator[str]:
    """Yield what the line above brings; a `remove` is left out as well where the node is *back_already*."""
    yield f"        gives on {node}: {given}"
    if back_already:
        yield f"        or, if it is back already: {back_already}"


def typed(node: str, line: Line) -> str:
    """Return the line as it stands in the runbook."""
    if line.kind is LineKind.COMMAND:
        asks = f"    (asks {line.question}: answer with a capital {line.answer})" if line.question else ""
        return f"    {node}> {line.text}{asks}"
    there = line.content.removeprefix("key-from:") if line.content.startswith("key-from:") else node
    only = "    (only if it is there)" if line.kind is LineKind.DELETE else ""
    return f"    {there}: {line}{only}"


def look(node: str, what: str) -> str:
    """Return the line that has a person look at *node* before going on."""
    return f"    {node}? status shows: {what}"


def looks(step: Step, cluster: Cluster) -> Iterator[str]:
    """Yield what a person is to look at in a step that changes nothing that is in use."""
    if step.action == REMOVE:
        return  # it is looked at before, in the step that says "still as approved", and may be out by now
    for one in step.params.get("nodes", ()):
        files = f"Certificates {' '.join(one['files'])}; " if one.get("files") else ""
        yield look(one["node"], files + cluster.in_role(one["role"]))
    if fresh := [one.subject for one in step.expects if one.kind == "absent"]:
        yield look(step.node, "; ".join(f"no file {name}" for name in fresh))
    for expect in (one for one in step.expects if one.kind == "database"):
        yield look(step.node, "; ".join(_before(expect.value, cluster)))


def _before(value: Mapping[str, Any], cluster: Cluster) -> Iterator[str]:
    """Yield what the status of a node is to show before anything is removed; out of date pairs keep it from more."""
    if value["role"] == NONE:
        yield DISABLED
        return
    if value["role"] == PRIMARY:
        yield cluster.in_role(PRIMARY)
    yield f"Certificates {' '.join(value['files'])}"
