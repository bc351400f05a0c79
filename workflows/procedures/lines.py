"""Lines of a step: MMP commands that say what they do to whom, and file transfers that say what they carry.

The text of a command comes from `mmp`; here it gets the short note by which a step that was cut off half-way knows
which of its lines are still needed ("disable:webadmin", "set:webadmin", "enable:webadmin", "restart:callbridge").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workflows.facts import NodeFacts, ServiceFact
from workflows.mmp.services import ServiceSettings, process_apply, services_of
from workflows.plan import Interruption, Line, LineKind
from workflows.procedures.wishes import parse_release


def command(text: str, note: str = "") -> Line:
    """Return the line that types *text*."""
    return Line(kind=LineKind.COMMAND, text=text, content=note)


def upload(name: str, content: str) -> Line:
    """Return the transfer that writes *content* ("certificate:seoul/cmscore1/callbridge") to the file *name*."""
    return Line(kind=LineKind.UPLOAD, text=name, content=content)


def fetch(name: str, content: str = "") -> Line:
    """Return the transfer that reads the file *name*."""
    return Line(kind=LineKind.FETCH, text=name, content=content)


def rename(old: str, new: str) -> Line:
    """Return the SFTP rename of *old* to *new*."""
    return Line(kind=LineKind.RENAME, text=f"{old} -> {new}")


def command_lines(process: str, sets: Mapping[str, str], *, enabled: bool, tag: str = "") -> tuple[Line, ...]:
    """Return *sets* with what makes them effective, each line noted: disable / set… / enable, or set… / restart.

    *sets* is {service or trust store: the line that sets it}; its line is noted "set:webbridge3.https".
    """
    texts = process_apply(process, enabled=enabled, certs_lines=tuple(sets.values()), tag=tag)
    whom = {text: name for name, text in sets.items()}
    return tuple(
        command(text, f"set:{whom[text]}" if text in whom else f"{_verb(text, process)}:{process}") for text in texts
    )


def restart_lines(process: str, *, enabled: bool, tag: str = "") -> tuple[Line, ...]:
    """Return the lines that make *process* read its files again, without setting any (row S9, same file names)."""
    marker = "\0"
    texts = process_apply(process, enabled=enabled, certs_lines=(marker,), tag=tag)
    return tuple(command(text, f"{_verb(text, process)}:{process}") for text in texts if text != marker)


def settings_of(fact: ServiceFact) -> ServiceSettings:
    """Return what the survey saw of a service in the form that `mmp.services` takes."""
    return ServiceSettings(
        enabled=fact.enabled,
        key=fact.key or None,
        certificate=fact.certificate or None,
        bundle=fact.bundle or None,
        listening=(),
        tag=fact.tag,
    )


def process_facts(process: str, facts: NodeFacts) -> tuple[ServiceFact, ...]:
    """Return what the survey saw of the services that *process* carries on that node."""
    release = parse_release(facts.release)
    names = {entry.name for entry in services_of(release) if entry.process == process} if release else set()
    return tuple(fact for fact in facts.services if fact.service in names)


def is_on(process: str, facts: NodeFacts) -> bool:
    """Return whether *process* runs on that node; a status that does not say counts as on when files are set."""
    return any(fact.enabled or (fact.enabled is None and fact.certificate) for fact in process_facts(process, facts))


def tag_of(process: str, facts: NodeFacts) -> str:
    """Return the tag of a load balancer, "" for every other process."""
    return next((fact.tag for fact in process_facts(process, facts) if fact.tag), "")


def interruptions(process: str, facts: NodeFacts) -> tuple[Interruption, ...]:
    """Return what a restart of *process* on that node interrupts, and for how long by the services table."""
    release = parse_release(facts.release)
    seen: Mapping[str, ServiceFact] = {fact.service: fact for fact in process_facts(process, facts)}
    entries = [entry for entry in services_of(release) if entry.name in seen] if release else []
    if not entries:
        return ()
    # One restart of the process interrupts all of its sub-services at once, so it counts once.
    return (
        Interruption(
            service=process,
            what="; ".join(_fullest(entry.interrupts for entry in entries)),
            from_s=max(entry.outage_s[0] for entry in entries),
            to_s=max(entry.outage_s[1] for entry in entries),
        ),
    )


def _fullest(said: Iterable[str]) -> list[str]:
    """Return *said* without what another one says already in its beginning."""
    every = list(dict.fromkeys(said))
    return [one for one in every if not any(other != one and other.startswith(one) for other in every)]


def _verb(text: str, process: str) -> str:
    words = text.removeprefix(process).split()
    return words[0] if words else text
