"""Faults at run time: a unix socket that takes one JSON object per line and answers each with one.

    {"do": "add", "fault": {"kind": "hang", "node": "cmscore1"}}    -> {"ok": true, "id": "fault-1"}
    {"do": "remove", "id": "fault-1"} | {"do": "clear"}             -> {"ok": true}
    {"do": "faults"}                                                -> {"ok": true, "faults": [...]}
    {"do": "state", "node": "cmscore1"}                             -> {"ok": true, "state": {...}}
    {"do": "database", "node": "cmscore1"}                          -> {"ok": true, "database": {...}}
    {"do": "idle", "cluster": "seoul"}                              -> {"ok": true, "idle": false}
    {"do": "reboot", "node": "cmscore1", "seconds": 3}              -> {"ok": true}

DIR/control.json says where the socket is: {"socket": "/path"}. From a shell: `python -m simulator control DIR JSON`.
"""

import asyncio
import json
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.faults import Fault

if TYPE_CHECKING:
    from simulator.machines import Fleet


class ControlSocket:
    """The socket of one fleet. It lives in a short temporary directory: socket paths are limited to 107 bytes."""

    def __init__(self, fleet: "Fleet", out: Path) -> None:
        self._fleet = fleet
        self._out = out
        self._directory: str | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Open the socket and write where it is."""
        self._directory = tempfile.mkdtemp(prefix="simulator-")
        path = f"{self._directory}/control"
        self._server = await asyncio.start_unix_server(self._serve, path)
        (self._out / "control.json").write_text(json.dumps({"socket": path}) + "\n")

    async def close(self) -> None:
        """Close and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = self.answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what *line* asks and return the answer; what cannot be done gives {"ok": false, "error": ...}."""
        try:
            request = json.loads(line)
            return {"ok": True, **self._do(request)}
        except (ValueError, KeyError, TypeError) as problem:
            return {"ok": False, "error": str(problem) or type(problem).__name__}

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        fleet = self._fleet
        match request["do"]:
            case "add":
                return {"id": fleet.add_fault(Fault.from_json(request["fault"]))}
            case "remove":
                fleet.remove_fault(request["id"])
            case "clear":
                fleet.remove_fault(None)
            case "faults":
                return {"faults": [fault.to_json() for fault in fleet.faults]}
            case "state":
                return {"state": fleet.state(request["node"])}
            case "database":
                return {"database": fleet.state(request["node"])["database"]}
            case "idle":
                return {"idle": not any(node.appliance.operation for node in fleet.of_cluster(request["cluster"]))}
            case "reboot":
                fleet.nodes[request["node"]].reboot(float(request.get("seconds", fleet.settings.reboot_s)))
            case other:
                raise ValueError(f"unknown request: {other}")
        return {}


def ask(out: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send *request* to the fleet that writes to *out* and return its answer. Raises: OSError: it is not running."""
    path = json.loads((out / "control.json").read_text())["socket"]
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
        connection.connect(path)
        stream.write(json.dumps(request) + "\n")
        stream.flush()
        answer: dict[str, Any] = json.loads(stream.readline())
    return answer
