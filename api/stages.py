"""The names of the stages, as the command line, the API and the pages call them."""

from __future__ import annotations

from workflows.plan import DATABASE

STAGES = {
    50: "trust",
    100: "survey",
    200: "prepare",
    300: "request",
    400: "sign",
    500: "deliver",
    550: "recheck",
    600: "trust",
    700: "apply",
    800: "prove",
    900: "close",
}
"""The names of the stages of DESIGN.md section 7."""

DATABASE_STAGES = {
    **{number: STAGES[number] for number in (200, 300, 400, 500, 550)},
    600: "backup",
    700: "remove",
    720: "initialize",
    740: "join",
    760: "connect",
    780: "upgrade_schema",
    800: "prove",
}
"""The same of a rebuild of a database cluster (DESIGN.md section 7, last paragraph)."""


def stage_name(kind: str, stage: int) -> str:
    """Return what a stage of a plan of this *kind* is called, "" when it has no name."""
    return (DATABASE_STAGES if kind == DATABASE else STAGES).get(stage, "")
