"""`plan --database` and the first words of `run --database`."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest

from api.plan_view import reasons
from tests.integration.cli.database_facts import CLUSTER, NODES, database_facts, survey_databases
from workflows.facts import DatabaseFact, DatabaseState
from workflows.journal import stock
from workflows.plan import Plan


def test_plan_shows_every_line_with_its_question_in_the_order_of_the_rebuild(world):
    """Stages have their own names, questions their answers, and the outage is predicted for nodes and cluster."""
    survey_databases(world)
    shown = world.ok("plan", "--database", "renew").splitlines()
    stages = [line.strip() for line in shown if line.startswith("  ") and line.strip()[:3].isdigit()]
    expected = ["200 prepare", "300 request", "400 sign", "500 deliver", "550 recheck", "600 backup", "700 remove"]
    assert stages == [*expected, "720 initialize", "740 join", "760 connect", "800 prove"]
    assert shown[0].startswith("database renew: ")
    assert "        database cluster remove   [(Y/n) → Y]" in shown
    assert shown.count("      if this fails, the others go on") == 2
    assert "  cms1: its database is away for 30 s to 5 min (predicted)" in shown
    assert "  seoul: the database cluster is away for 90 s to 26 min (predicted)" in shown
    assert any("way back after it: none but forward, or the backup" in line for line in shown)


def test_plan_shows_the_lines_back_where_the_old_files_are_good(world):
    """As long as the old certificates hold, each removed node can be taken back by its own lines."""
    survey_databases(world, days=20)
    shown = world.ok("plan", "--database", "renew").splitlines()
    assert "      way back: database cluster join 10.0.0.1   [(Y/n) → Y]" in shown
    assert "      way back after it: its own lines back, while the primary is in the cluster" in shown


def test_plan_says_in_json_how_long_each_node_is_away(world):
    """Programs get the same numbers; null where it lasts until a cluster is built."""
    survey_databases(world)
    summary = world.json("plan", "--database", "dissolve")["summary"]
    assert summary["purpose"] == "dissolve"
    away = {"cluster": None, "nodes": {"cms1": [10, 120], "cms2": [10, 120], "cms3": None}}
    assert summary["away"] == {"seoul": away}


def test_plan_says_why_each_lane_is_due(world):
    """Each reason once with its nodes, the first three of them, and how many more there are."""
    survey_databases(world)
    shown = world.ok("plan", "--database", "renew").splitlines()
    (why,) = [line for line in shown if line.startswith("  due because: ")]
    assert re.fullmatch(
        r"  due because: cms1, cms2: dbserver.crt ends \S+; cms1, cms2, cms3: dbclient.crt ends \S+", why
    )
    four = {"seoul/dbserver": {"why": [f"cms{number}: reason {number}" for number in range(4)]}}
    plan = Plan(kind="database", fleet={}, lanes=(), wishes=four)
    assert reasons(plan, "seoul") == "cms0: reason 0; cms1: reason 1; cms2: reason 2; and 1 more"


def test_dissolving_says_until_when_nobody_has_a_database(world):
    """A connected node has none until it connects again, and nobody can predict when that is."""
    survey_databases(world)
    shown = world.ok("plan", "--database", "dissolve").splitlines()
    assert "  cms3: it has no database until a cluster is built and it connects to it" in shown
    ends = "  seoul: there is no database cluster until one is built; taking it apart lasts 30 s to 6 min"
    assert ends in shown


def test_nothing_due_says_until_when_all_is_well(world):
    """An empty plan is exit 0, with the reason on standard error."""
    survey_databases(world, days=200)
    result = world.say("plan", "--database", "renew")
    assert (result.exit_code, result.stdout) == (0, "Nothing is due: everything is as wanted.\n")
    assert "seoul: its database certificates are as wanted; db" in result.stderr
    assert "within 30 days is due (`--within`)" in result.stderr
    assert "700 remove" in world.ok("plan", "--database", "renew", "--within", "300d")


def test_a_cluster_is_taken_whole_whatever_was_selected(world):
    """One connected node in the selection means its cluster; so the plan is the same, byte for byte."""
    survey_databases(world)
    whole = world.json("plan", "--database", "renew")
    assert world.json("plan", "--database", "renew", "--node", "cms3") == whole
    assert world.json("plan", "--database", "renew", "--cluster", "seoul") == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--database", "renew", "--certificate", "callbridge"], "does not go with `--database`"),
        (["--primary", "cms1"], "`--primary` is for database clusters"),
        (["--upgrade-schema"], "`--upgrade-schema` is for database clusters"),
        (["--database", "dissolve", "--upgrade-schema"], "no schema to upgrade"),
        (["--database", "renew", "--upgrade-schema"], "A renewal leaves the schema as it is"),
        (["--database", "dissolve", "--primary", "cms1"], "nobody needs to be named"),
        (["--database", "renew", "--primary", "nosuch"], "nosuch: is in no database cluster of the selection"),
        (["--database", "renew", "--primary", "cms3"], "cms3: cannot be the primary"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(world, words, said):
    """Exit 2, for `plan` and for `run`."""
    survey_databases(world)
    for command in ("plan", "run"):
        result = world.say(command, *words)
        assert result.exit_code == 2
        assert said in result.stderr


def test_building_without_a_primary_is_wrong_input(world):
    """Nothing on the servers can tell whose data is to live, so it must be said: exit 2."""
    world.fleet.write_text(CLUSTER)
    for node in NODES:
        out = DatabaseFact(state="Disabled")
        facts = replace(
            database_facts(node), database=DatabaseState.DISABLED, database_primary="", database_cluster=out
        )
        world.journal.write(partial(stock.put_facts, node=node, facts=facts.to_json()))
    result = world.say("plan", "--database", "build")
    assert result.exit_code == 2
    assert "nothing tells which node holds the data to keep" in result.stderr


def test_warnings_of_the_inventory_come_with_the_plan_and_not_with_the_run(world):
    """Two joined nodes: once is enough. `--node` is no smaller plan, and that is said."""
    survey_databases(world)
    world.beat()
    warned = "an even number of nodes (2) is joined"
    planned = world.say("plan", "--database", "renew", "--node", "cms3").stderr
    assert warned in planned
    assert "a database cluster changes as a whole" in planned
    assert warned not in world.say("run", "--database", "renew", "--yes").stderr


def test_findings_come_with_remedies(world):
    """No plan where the inventory contradicts the servers: exit 1, each finding with what to do."""
    survey_databases(world)
    result = world.say("plan", "--database", "build")
    assert result.exit_code == 1
    assert "cms1, cms2, cms3 are in a database cluster already" in result.stderr
    assert "→ Use `certbridge plan --database renew`" in result.stderr


def test_a_node_that_did_not_answer_its_last_survey_is_named(world):
    """Its facts of an hour ago do not count: what its database holds now is not known."""
    survey_databases(world)
    with world.worker(fail={"seoul/cms2/survey": "no route to host"}):
        assert world.say("survey", "--node", "cms2").exit_code == 1
    result = world.say("plan", "--database", "renew")
    assert result.exit_code == 1
    assert "cms2: is joined and did not answer the last survey" in result.stderr
    assert "not known (no route to host)" in result.stderr
    assert "set `database: none`" in result.stderr


def test_a_node_without_a_place_in_the_cluster_holds_nobody_up(world):
    """A dead server that the inventory took out of the cluster is not looked at."""
    survey_databases(world)
    with world.worker(fail={"seoul/cms2/survey": "no route to host"}):
        world.say("survey", "--node", "cms2")
    gone = "port: 2202, database: none, database_address: 10.0.0.2"
    world.fleet.write_text(CLUSTER.replace("port: 2202, database: joined", gone))
    shown = world.ok("plan", "--database", "renew")
    assert "cms2: leaves the cluster" not in shown
    assert "cms1: leaves the cluster (primary)" in shown


def test_survey_that_comes_with_the_plan_decides_who_is_silent(world):
    """`--survey` reads the whole cluster first; who fails then is silent, and nobody else."""
    survey_databases(world)
    with world.worker(fail={f"seoul/{node}/survey": "no route to host" for node in NODES}):
        result = world.say("plan", "--database", "renew", "--survey", "--node", "cms1")
    assert result.exit_code == 1
    assert [node for node in NODES if f"{node}: is" in result.stderr] == list(NODES)


def test_run_shows_what_is_done_while_the_cluster_stands_and_asks_once(world):
    """Up to the hand-out all lines are new files; what is behind the gate is not among them."""
    survey_databases(world)
    world.beat()
    refused = world.say("run", "--database", "renew")
    assert refused.exit_code == 2
    assert "pki sign dbserver-1 dbca" in refused.stderr
    assert "sftp upload dbclient-1.key" in refused.stderr
    assert "database cluster remove" not in refused.stderr
    result = world.say("run", "--database", "renew", "--yes")
    assert result.exit_code == 0
    run = result.stdout.strip()
    assert world.journal.plan(run)["purpose"] == "renew"
    held = world.say("run", "--database", "renew", "--yes")
    assert held.exit_code == 4
    assert "pki csr" not in held.stderr  # nobody reads a plan that cannot begin
    assert f"held by run {run}" in held.stderr
