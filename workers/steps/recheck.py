"""Read what a plan expects of a server, and stop with the difference when it is no longer so (stage 550, each step)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.survey import read_statuses, service_facts
from workflows.errors import Drifted
from workflows.mmp.commands import Version
from workflows.mmp.services import services_of, trust_stores_of
from workflows.plan import Expect


async def recheck(context: StepContext) -> dict[str, Any]:
    """Read every expectation of this step. Raises: Drifted with all differences."""
    async with context.session() as session:
        await check_expects(session, context.step.expects, node=context.step.node)
    return {"expects": len(context.step.expects)}


async def check_expects(session: NodeSession, expects: Iterable[Expect], *, node: str) -> None:
    """Return when all of *expects* is true on the server. Raises: Drifted, naming each difference."""
    wanted = tuple(expects)
    if not wanted:
        return
    differences = await _absent(session, [one.subject for one in wanted if one.kind == "absent"])
    if any(one.kind in {"setting", "trust"} for one in wanted):
        now = await read_settings(session)
        differences += [text for one in wanted if (text := _difference(one, now))]
    if differences:
        raise Drifted(f"The server is no longer as the plan expects: {'; '.join(differences)}.", node=node)


async def read_settings(session: NodeSession) -> dict[str, Any]:
    """Return {service: {"key", "certificate", "bundle", "enabled"}, trust store: file} as the statuses say now."""
    version = await session.ask(Version())
    release = (version[0], version[1])
    statuses = await read_statuses(session, services_of(release))
    settings: dict[str, Any] = {
        fact.service: {
            "key": fact.key,
            "certificate": fact.certificate,
            "bundle": fact.bundle,
            "enabled": fact.enabled,
        }
        for fact in service_facts(services_of(release), statuses)
    }
    stores = {
        f"trust {store.name}": store.current(statuses[store.process]) or ""
        for store in trust_stores_of(release)
        if store.process in statuses
    }
    return settings | stores


async def _absent(session: NodeSession, names: list[str]) -> list[str]:
    if not names:
        return []
    there = {entry.name for entry in await session.listing()}
    return [f"{name} is there already" for name in names if name in there]


def _difference(expect: Expect, now: dict[str, Any]) -> str:
    if expect.kind == "trust":
        found = now.get(f"trust {expect.subject}", "")
        return "" if found == expect.value else f"{expect.subject} is {found or 'none'}, not {expect.value}"
    if expect.kind != "setting":
        return ""
    found = now.get(expect.subject)
    if found is None:
        # A service that was off and unknown at survey time may still be without a status.
        return "" if not expect.value["certificate"] else f"{expect.subject} is gone from the server's status"
    changed = [
        f"{what} {found[what] or 'none'} instead of {value or 'none'}"
        for what, value in expect.value.items()
        if (found[what] or "") != (value or "")
    ]
    return f"{expect.subject}: {', '.join(changed)}" if changed else ""
