"""The command line: `certbridge …`. Each command is a short shell around `workflows`; none touches a server.

    fleet trust survey plan run runs gates journal database   the commands, one module each
    running                                                   up, down, doctor, demo, simulator, worker, beat
    elsewhere remote                                          login, and the commands over the API of another machine
    output progress surroundings metavars                     what they share: printing, waiting, settings, identity
    following plan_text run_text gate_text reading_plans      what they show and start
    reference                                                 writes docs/reference/cli.md from all of this

Results go to standard output, all else to standard error. Exit codes are those of DESIGN.md section 9.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from api.cli import database, elsewhere, fleet, gates, journal, plan, run, running, runs, survey, trust, users
from api.cli.metavars import name_values
from api.cli.output import note, show_error
from workflows.errors import CertbridgeError, words_of


class _Commands(TyperGroup):
    """All commands; whatever goes wrong in one ends as a sentence, a remedy and an exit code."""

    def __init__(self, **said: Any) -> None:
        super().__init__(**said)
        name_values(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command that was asked for."""
        try:
            return super().invoke(ctx)
        except CertbridgeError as error:
            show_error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            note("interrupted")
            code = 130
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - the last one who can say it in a sentence
            code = _unexpected(error, debug=bool(ctx.params.get("debug")))
        raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    help="Renew the certificates of Cisco Meeting Server fleets: every command shown, approved, carried out, proved.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is quick, and the same in every terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    remote: Annotated[
        bool | None,
        typer.Option("--remote/--local", help="Work over the API that was logged in to, or on this machine."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.", is_eager=True)] = False,
) -> None:
    elsewhere.Choice.remote = remote
    del debug  # read by _Commands.invoke
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"certbridge {version_of('certbridge')}")
        raise typer.Exit


for _module in (running, elsewhere, fleet, trust, survey, plan, run, runs, gates, users, journal, database):
    _module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out *arguments* (default: those of this process) and exit with the code of DESIGN.md section 9."""
    app(args=arguments, prog_name="certbridge")


def _unexpected(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    note(f"certbridge did not expect this: {words_of(error)}", "bold red")
    if not debug:
        note("→ Say `certbridge --debug …` to see where it happened, and report it.")
    return 1
