"""What the rules found, each with its place, and the one fault that rules of nodes and of certificates share."""

from __future__ import annotations

from dataclasses import dataclass, field

from workflows.errors import Finding
from workflows.inventory import checks
from workflows.inventory.document import Document, Path
from workflows.inventory.values import Node


@dataclass(slots=True)
class Report:
    """Collects what the rules find. Of one kind of fault at one place only the first is kept."""

    document: Document
    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    _seen: set[tuple[Path, str]] = field(default_factory=set)

    def fault(self, path: Path, what: str, remedy: str) -> None:
        """Note a fault at *path*; the remedy tells its kind."""
        self._note(self.faults, path, what, remedy)

    def warn(self, path: Path, what: str, remedy: str) -> None:
        """Note something that works, but hardly as meant."""
        self._note(self.warnings, path, what, remedy)

    def lacks_service(self, path: Path, service: str, node: Node) -> None:
        """Note that the release of *node* has no *service* (row S10)."""
        first, last = checks.SERVICE_RELEASES[service]
        known = f"from {first[0]}.{first[1]}" if last is None else f"up to {last[0]}.{last[1]}"
        self.fault(
            path,
            f"release {node.release} (node {node.name}) has no service {service!r}",
            f"{service} exists {known}: correct the release or the service.",
        )

    def _note(self, where_to: list[Finding], path: Path, what: str, remedy: str) -> None:
        if (path, remedy) not in self._seen:
            self._seen.add((path, remedy))
            where_to.append(Finding(self.document.where(path), what, remedy))
