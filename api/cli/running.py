"""`up`, `down`, `serve`, `worker`, `beat`, `simulator`, `doctor`, `demo`: what runs, as commands.

The command line reaches workers and simulator as subprocesses only, never by import (house-style.md, import contract),
so each command here passes its options on and becomes, or waits for, the program that does the work.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from api.cli.elsewhere import need_here
from api.cli.surroundings import FleetOption, load_settings
from workflows.errors import InputError


class Queue(StrEnum):
    """The queues that workers serve."""

    FLEET = "fleet"
    CLUSTER = "cluster"
    CONTROL = "control"


def register(app: typer.Typer) -> None:
    """Add the commands of this module, and `doctor` and `demo`."""
    app.command()(up)
    app.command()(down)
    app.command()(serve)
    app.command()(doctor)
    app.command()(demo)
    app.command()(simulator)
    app.command()(worker)
    app.command()(beat)
    app.command()(flower)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all runs; `down` stops it.")] = False,
) -> None:
    """Start broker, workers, clock, API, pages and Flower on this machine, and stay until Ctrl-C."""
    need_here("`up`")
    _become("workers.supervisor", "up", *(["--detach"] if detach else []))


def down() -> None:
    """Stop what `up` started: workers end the steps they have, the broker goes last."""
    need_here("`down`")
    _become("workers.supervisor", "down")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0: CERTBRIDGE_API_PORT, else 8700.")
    ] = 0,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="Certificate and chain (PEM), for TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        str,
        typer.Option(
            "--behind-proxy", metavar="ADDRESS", help="A proxy that speaks TLS; its X-Forwarded-* headers count."
        ),
    ] = "",
) -> None:
    """Be the API and the pages in the foreground (systemd, containers); TERM stops it."""
    from api.serving import serve as serve_on

    def say_now(text: str) -> None:
        print(text, flush=True)  # in a pipe too, since somebody may wait for it

    settings = load_settings()
    serve_on(
        settings,
        host=host,
        port=port or settings.api_port,
        certificate=certificate,
        key=key,
        behind_proxy=behind_proxy,
        say=say_now,
    )


def worker(
    queue: Annotated[Queue, typer.Argument(help="Which steps: fleet, cluster (databases) or control (one of it).")],
    name: Annotated[str, typer.Option(help="Name of this worker; one name once on a machine.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Steps at the same time; 0: as the settings say.")] = 0,
) -> None:
    """Be one worker in the foreground (systemd, containers); TERM stops it politely."""
    need_here("`worker`")
    _become("workers.supervisor", "worker", queue.value, "--name", name, "--threads", str(threads))


def beat() -> None:
    """Be the clock in the foreground (systemd, containers); one of it is enough."""
    need_here("`beat`")
    _become("workers.supervisor", "beat")


def flower(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Be Flower in the foreground, read only; the API shows it to who has signed in (systemd, containers)."""
    _become("workers.supervisor", "flower", "--host", host)


def simulator(
    out: Annotated[Path, typer.Option(help="Directory for fleet.yaml, pins.json, credentials.yaml and the log.")],
    clusters: Annotated[int, typer.Option(min=1, help="How many clusters.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="How many servers in each cluster.")] = 3,
    release: Annotated[str, typer.Option(help="Release of the servers: 2.9 or 3.x.")] = "3.9",
    latency: Annotated[str, typer.Option(help="Seconds for `pki csr`, or 'pki csr=3,webadmin enable=0.5'.")] = "",
    key_pool: Annotated[str, typer.Option(help="Number of keys made beforehand, or a file of PEM keys.")] = "",
    days_left: Annotated[float, typer.Option(help="Days left of the old certificates; negative: expired.")] = 12.0,
    joined: Annotated[
        int | None, typer.Option(min=1, max=5, help="Servers that hold the database, per cluster.")
    ] = None,
    connected: Annotated[int | None, typer.Option(min=0, help="Servers that only use it, per cluster.")] = None,
    database_days_left: Annotated[
        float | None, typer.Option(help="Days left of the database certificates; else as --days-left.")
    ] = None,
    database: Annotated[
        Literal["ready", "none"],
        typer.Option(metavar="STATE", help="Whether the database cluster stands (ready), or is to be built (none)."),
    ] = "ready",
    primary: Annotated[
        int, typer.Option(min=0, metavar="N", help="Which joined server is the primary of the database; 0: the first.")
    ] = 0,
    database_pairs: Annotated[
        Literal["shared", "own"],
        typer.Option(metavar="KIND", help="Whether servers share the database pairs: shared or own."),
    ] = "shared",
    database_s: Annotated[
        str, typer.Option("--database-s", help="Simulated seconds of database operations: 'join=600,remove=5'.")
    ] = "",
    speed: Annotated[float, typer.Option(min=0.1, help="Seconds of a database operation in one second.")] = 40.0,
    fault: Annotated[list[str] | None, typer.Option(metavar="JSON", help="A fault as JSON; may be repeated.")] = None,
    services: Annotated[str, typer.Option(help="webadmin,callbridge,…; else the usual ones of the release.")] = "",
) -> None:
    """Run a fleet of simulated servers in the foreground, until Ctrl-C."""
    words = ["--clusters", str(clusters), "--nodes", str(nodes), "--release", release, "--out", str(out)]
    words += [f"--days-left={days_left}", "--database", database, "--speed", str(speed)]
    words += ["--primary", str(primary), "--database-pairs", database_pairs]
    for name, number in (("joined", joined), ("connected", connected), ("database-days-left", database_days_left)):
        if number is not None:
            words.append(f"--{name}={number}")
    for option, value in (
        ("--latency", latency),
        ("--key-pool", key_pool),
        ("--services", services),
        ("--database-s", database_s),
    ):
        if value:
            words += [option, value]
    for one in fault or ():
        words += ["--fault", one]
    _become("simulator", *words)


def doctor(
    fleet: FleetOption = None,
    credential: Annotated[
        str, typer.Option(help="Let this credential, which rests after a refusal, be tried again.")
    ] = "",
) -> None:
    """Check broker, database, workers, inventory, credentials, host keys and clocks; each fault with its remedy."""
    from api.cli.doctor import examine

    need_here("`doctor`")

    raise typer.Exit(examine(fleet, wake=credential))


def demo(
    clusters: Annotated[int, typer.Option(min=1, help="How many clusters.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="How many servers in each cluster.")] = 3,
    release: Annotated[str, typer.Option(help="Release of the servers: 2.9 or 3.x.")] = "3.9",
    ask: Annotated[bool, typer.Option("--ask", help="Let me decide at the gates.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave engine, servers and pages open afterwards, and say where.")
    ] = False,
    latency: Annotated[float, typer.Option(min=0.0, help="Seconds that a server takes for a key and its CSR.")] = 2.0,
    database: Annotated[
        bool, typer.Option("--database", help="Rebuild a database cluster whose certificates are expired instead.")
    ] = False,
    joined: Annotated[
        int | None, typer.Option(min=1, max=5, help="With --database: servers that hold the database, 3 if not said.")
    ] = None,
    connected: Annotated[
        int | None, typer.Option(min=0, help="With --database: servers that only use it, 2 if not said.")
    ] = None,
) -> None:
    """Renew a simulated fleet from survey to proof, with the commands that you would use yourself."""
    if database:
        from api.cli.demo_database import DatabaseStory

        counts = {"joined": 3 if joined is None else joined, "connected": 2 if connected is None else connected}
        with DatabaseStory(clusters=clusters, **counts, release=release, ask=ask, keep=keep) as rebuilt:
            raise typer.Exit(rebuilt.tell())
    if joined is not None or connected is not None:
        said = "--joined" if joined is not None else "--connected"
        raise InputError(f"`{said}` is for the demo of a database.", remedy="Say `--database` too, or `--nodes` here.")
    from api.cli.demo import Story

    with Story(clusters=clusters, nodes=nodes, release=release, ask=ask, keep=keep, latency=latency) as story:
        raise typer.Exit(story.tell())


def _become(module: str, *words: str) -> NoReturn:
    """Turn this process into `python -m module words…`, so that signals and exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *words])  # noqa: S606 - our own program, no shell
