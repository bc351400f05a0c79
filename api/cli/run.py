"""`certbridge run`: start what a plan shows, after a person has seen the lines that come first.

What stands before the first gate makes new files only (stages 200 and 300; of a database up to the hand-out, when its
own CA signs), so one yes is enough for it; what interrupts anything waits behind the gates.
Keys and CSRs that were brought in (`key: file`) are checked here and sealed in the same commit that starts the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api import planning
from api.cli import plan as plans
from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, emit, note, say
from api.cli.plan_database import DatabaseOption, PrimaryOption, SchemaOption
from api.cli.surroundings import (
    CertificateOption,
    ClusterOption,
    FleetOption,
    NodeOption,
    YesOption,
    account,
    confirm,
    load_settings,
    need_worker,
    now,
    open_journal,
    read_bytes,
)
from workflows.errors import CertificateError, Finding, InputError

if TYPE_CHECKING:
    from workflows.journal import Journal, Transaction
    from workflows.plan import Plan
    from workflows.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("run")(run)


@over_api("run")
def run(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A plan from `certbridge plan --save`.")] = None,
    fleet: FleetOption = None,
    cluster: ClusterOption = None,
    node: NodeOption = None,
    certificate: CertificateOption = None,
    database: DatabaseOption = "",
    primary: PrimaryOption = "",
    upgrade_schema: SchemaOption = False,
    within: plans.WithinOption = "30d",
    survey: plans.SurveyOption = False,
    at: plans.NowOption = None,
    yes: YesOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it; ends with exit code 3 where people must decide.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Start a run and print its id: prepare and request at once, then it waits for approval."""
    choice = planning.DatabaseChoice(purpose=database, primary=primary, upgrade_schema=upgrade_schema)
    if file is not None:
        _refuse_selectors(fleet, cluster, node, certificate, database, primary, upgrade_schema, survey=survey, at=at)
        made = plans.read_document(file)
    else:
        made = plans.from_options(
            fleet, cluster, node, certificate, choice, within=within, survey=survey, at=at, warn=False
        )
    from workflows.actions import resources_of
    from workflows.journal import runs

    if made.empty:
        note("Nothing is due: everything is as wanted.")
        return
    settings = load_settings()
    with open_journal(settings) as journal:
        if file is not None:
            made = plans.kept(journal, file, made)
        planning.check_fresh(journal, made)
        need_worker(journal)
        # Nobody reads a plan that cannot begin.
        journal.read(partial(runs.check_free, resources=resources_of(made)))
        show_lines(made, made.digest(), yes=yes)
        confirm("Begin with these lines?", yes=yes)
        name = start(journal, settings, made, by=account())
        if output is Format.TABLE:
            say(name)
        else:
            emit({"run": name, "digest": made.digest()}, output)
        if watch:
            from api.cli.following import watch as follow

            raise typer.Exit(follow(journal, name))
    note(f"follow it with `certbridge runs watch {name}`")


def show_lines(made: Plan, digest: str, *, yes: bool) -> None:
    """Show what is begun with; who says `--yes` has seen the lines before, in the plan."""
    from api.cli import plan_text

    shown = plan_text.short_lines(made) if yes else plan_text.lines(made, first=True)
    for line in (*shown, *plan_text.notices(made)):
        note("".join(span if isinstance(span, str) else span[0] for span in line))
    note(f"digest {digest}; whatever interrupts a service waits behind the gates")


def start(journal: Journal, settings: Settings, made: Plan, *, by: str) -> str:
    """Start the run of plan *made* and return its id; keys that were brought in are sealed in the same commit.

    Whoever made the plan, here or over the API, stays its author beside *by*: neither may approve it.
    Raises: NoWorker, PlanError (nothing to do), Reserved, CertificateError (what was brought in does not fit).
    """
    from workflows.actions import new_run_id, start_run
    from workflows.journal import asked

    brought = read_brought(made)
    need_worker(journal)
    name = new_run_id(now())
    author = journal.read(partial(asked.maker_of, digest=made.digest()))
    also = _sealing(settings, name, brought) if brought else None
    start_run(journal, made, by=by, run=name, planned_by=author, also=also)
    return name


def read_brought(made: Plan) -> dict[str, bytes]:
    """Return {"<wish id>.key": PEM, "<wish id>.csr": PEM} of the wishes with `key: file`.

    Raises: CertificateError with every finding: unreadable, not one pair, or not what was wished. InputError: no file.
    """
    from workflows.inventory import KeyOrigin

    brought: dict[str, bytes] = {}
    findings: list[Finding] = []
    for wish_id, wish in made.wishes.items():
        if wish["key"] != KeyOrigin.FILE.value:
            continue
        try:
            brought |= _read_pair(wish_id, wish)
        except CertificateError as error:
            findings.extend(error.findings)
    if findings:
        raise CertificateError(findings)
    return brought


def _read_pair(wish_id: str, wish: Mapping[str, Any]) -> dict[str, bytes]:
    from workflows.papers import sans_of, subject_of
    from workflows.x509.request import check_request, key_pem, read_private_key, read_request, spki_sha256

    key_file, csr_file = Path(wish["key_file"]), Path(wish["csr_file"])
    named = f"of certificate {wish['name']}"
    key_data = read_bytes(key_file, f"the key {named}", "Correct `key_file`, or use `key: node` or `key: engine`.")
    csr_data = read_bytes(csr_file, f"the CSR {named}", "Correct `csr_file`, or use `key: node` or `key: engine`.")
    key = read_private_key(key_data, where=key_file.name)
    request = read_request(csr_data, where=csr_file.name)
    faults = [
        Finding(f"{csr_file.name} ({one.where})", one.what, one.remedy)
        for one in check_request(request, subject_of(wish), sans_of(wish)).faults
    ]
    if spki_sha256(key) != request.spki_sha256:
        remedy = "Bring the CSR that was made with this key."
        faults.append(Finding(csr_file.name, f"is not for the key in {key_file.name}", remedy))
    if faults:
        raise CertificateError(faults)
    return {f"{wish_id}.key": key_pem(key), f"{wish_id}.csr": request.pem}


def _sealing(settings: Settings, name: str, brought: Mapping[str, bytes]) -> Callable[[Transaction], None]:
    from workflows.journal import stock
    from workflows.journal.vault import Vault

    vault = Vault(settings.vault_dir)
    sealed = {f"{name}/{row}": vault.seal(f"{name}/{row}", data) for row, data in brought.items()}

    def write(tx: Transaction) -> None:
        for row, ciphertext in sealed.items():
            stock.seal(tx, row, ciphertext)

    return write


def _refuse_selectors(*given: object, survey: bool, at: str | None) -> None:
    if any(given) or survey or at:
        raise InputError(
            "A plan file says everything by itself.", remedy="Leave the selectors out, or leave the file out."
        )
