"""A person with SSH and a runbook, nothing else: reads it line by line, looks at the servers, types what is left.

It knows the text form of `docs/howto/database-by-hand.md` and what `database cluster status` looks like; nothing of our
code. It waits while a command is in progress and leaves a line out when the status shows already what it gives.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.fleet import FleetHandle
from tests.integration.simulator.simulator_client import confirm, download, talk, upload

TYPED = re.compile(r"    (\S+)> (.+?)(?:    \(asks \(Y/n\): answer with a capital (Y)\))?")
TRANSFER = re.compile(r"    (\S+): sftp (upload|fetch|delete) (\S+)(?:    \(.*\))?")
LOOK = re.compile(r"    (\S+)\? status shows: (.+)")
GIVES = re.compile(r"        gives on (\S+): (.+)")
BACK_ALREADY = re.compile(r"        or, if it is back already: (.+)")
ROW = re.compile(r" *(.+?) *: (.*)")
FILE_ROWS = ("Server Key", "Server Certificate", "Client Key", "Client Certificate", "CA Certificate")
PATIENCE_S = 20.0


def section(text: str, title: str) -> list[str]:
    """Return the lines of the part of a runbook called *title*: "next, in this order", "back"."""
    lines = text.splitlines()
    at = lines.index(f"## seoul: {title}") + 1
    ends = [number for number, line in enumerate(lines) if number > at and line.startswith("## ")]
    return lines[at : ends[0] if ends else len(lines)]


@dataclass
class Person:
    """Somebody at a terminal. `typed` is what went out, `hands` the files fetched so far."""

    fleet: FleetHandle
    typed: list[tuple[str, str]] = field(default_factory=list)
    hands: dict[str, bytes] = field(default_factory=dict)

    def follow(self, lines: list[str]) -> None:
        """Do what *lines* say, from the top. Raises: AssertionError: a look shows something else, or a line failed."""
        for number, line in enumerate(lines):
            given = GIVES.fullmatch(lines[number + 1]) if number + 1 < len(lines) else None
            if found := LOOK.fullmatch(line):
                self._until(lambda found=found: self.shows(found[1], [found[2]]), line)
            elif found := TRANSFER.fullmatch(line):
                if given is None or not self.shows(given[1], [given[2]]):
                    self._transfer(*found.groups())
            elif found := TYPED.fullmatch(line):
                assert given, f"nothing says what this brings: {line}"
                back = BACK_ALREADY.fullmatch(lines[number + 2]) if number + 2 < len(lines) else None
                node, what = given[1], [given[2], *(back.groups() if back else ())]
                self._until(lambda node=node: "(In progress)" not in self.status(node), f"{node} is busy")
                if not self.shows(node, what):
                    self._type(*found.groups())
                    self._until(lambda node=node, what=what: self.shows(node, what), line)
            else:
                told = GIVES.fullmatch(line) or BACK_ALREADY.fullmatch(line)
                assert not line.startswith("    ") or told, f"not understood: {line}"

    def status(self, node: str) -> str:
        """Return `database cluster status` of *node*."""
        return talk(self.fleet, node, "database cluster status")[0]

    def shows(self, node: str, what: list[str]) -> bool:
        """Tell whether *node* shows one of *what*, each of terms joined by "; "."""
        status = self.status(node)
        return any(all(self._term(node, status, term) for term in either.split("; ")) for either in what)

    def _term(self, node: str, status: str, term: str) -> bool:
        rows = [found.groups() for line in status.splitlines() if (found := ROW.fullmatch(line))]
        named = dict(rows)
        word, _, rest = term.partition(" ")
        if word == "file":
            return rest in self.fleet.files(node)
        if term.startswith("no file "):
            return term.removeprefix("no file ") not in self.fleet.files(node)
        if word in {"Status", "Interface"}:
            return named.get(word) == rest
        if word == "Certificates":
            return [named[row].partition(" ")[0] for row in FILE_ROWS if row in named] == rest.split()
        if term.startswith("Last command "):
            return named.get("Last command") == term.removeprefix("Last command ")
        if term == "no (me)":
            return not any(label.endswith("(me)") for label, _ in rows)
        label, _, value = term.partition("Connected ")
        return any(one.endswith(label.strip()) and said == f"Connected {value}" for one, said in rows)

    def _type(self, node: str, line: str, answer: str | None) -> None:
        self.typed.append((node, line))
        said = confirm(self.fleet, node, line, answer) if answer else talk(self.fleet, node, line)[0]
        assert "FAILURE" not in said, f"{node}> {line}: {said}"

    def _transfer(self, node: str, verb: str, name: str) -> None:
        if verb == "fetch":
            self.hands[name] = download(self.fleet, node, name)
        elif verb == "upload":
            upload(self.fleet, node, name, self.hands[name])
        else:
            self.fleet._call(lambda: self.fleet.fleet.nodes[node].appliance.files.pop(name))

    @staticmethod
    def _until(holds: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < ends, f"it does not come to that: {what}"
            time.sleep(0.02)
