"""Sentences of the core in Korean: every plan is told whole, and what modules say stands in the catalogues."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape
from said_in_core import ROOT, VALUE, messages_in, refusals_in, sentences_in

from api import gate_view, plan_view, stages
from api.pages import particles, sentences, texts, words
from tests.unit.core.database_fleets import a_database_fleet, changed, database_facts, database_plan
from tests.unit.core.fleets import NOW, a_cluster, a_fleet, facts_of, plan_of, usual_wishes
from tests.unit.core.model import facts_after
from workflows.inventory import FilesPolicy, KeyOrigin
from workflows.plan import Plan
from workflows.procedures.renewal_rollback import plan_renewal_rollback
from workflows.procedures.rollback import plan_rollback


@pytest.fixture(autouse=True)
def korean() -> Iterator[None]:
    texts.speak("ko")
    yield
    texts.speak("en")


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _renewals() -> Iterator[tuple[str, Plan]]:
    for release in ("2.9", "3.9"):
        for name, changes in {
            "fresh": {},
            "same": {"files": FilesPolicy.SAME},
            "engine": {"key": KeyOrigin.ENGINE},
            "told": {"trusted_by": ("Expressway-C: trust store",)},
        }.items():
            fleet = a_fleet(a_cluster("seoul", ("a1", "a2"), usual_wishes(("a1", "a2"), release, **changes)))
            facts = facts_of(fleet, release)
            plan = plan_of(fleet, facts)
            yield f"renewal {release} {name}", plan
            if name in {"fresh", "same"}:
                yield f"back from {release} {name}", plan_renewal_rollback(plan, facts_after(plan, facts), now=NOW)


DATABASE = a_database_fleet()
STANDING = database_facts(DATABASE)
EVERYBODY = ("a1", "a2", "a3", "b1")


def _databases() -> Iterator[tuple[str, Plan]]:
    renew = database_plan(DATABASE, STANDING)
    yield "renew", renew
    yield "renew, primary by hand", database_plan(DATABASE, STANDING, primary="a2")
    yield "renew, one is out", database_plan(DATABASE, database_facts(DATABASE, days=400, outside=["a3", "b1"]))
    yield (
        "renew, primary by hand is out",
        database_plan(DATABASE, database_facts(DATABASE, outside=["a2"]), primary="a2"),
    )
    yield "renew, expired", database_plan(DATABASE, database_facts(DATABASE, expired=["a1"]))
    yield "renew, no names", database_plan(DATABASE, changed(STANDING, "b1", client_key=""))
    for issuer, key in (("manual", KeyOrigin.NODE), ("manual", KeyOrigin.ENGINE), ("built-in", KeyOrigin.ENGINE)):
        fleet = a_database_fleet(issuer=issuer, key=key, keep_ca=False)
        yield f"renew {issuer} {key.value}", database_plan(fleet, database_facts(fleet))
    out = database_facts(DATABASE, outside=EVERYBODY)
    yield "build", database_plan(DATABASE, out, "build", primary="a1", upgrade_schema=True)
    yield "dissolve", database_plan(DATABASE, STANDING, "dissolve")
    yield "dissolve, one is out", database_plan(DATABASE, database_facts(DATABASE, outside=["a3"]), "dissolve")
    even = a_database_fleet(4, 0)
    yield "even", database_plan(even, database_facts(even))
    left = database_facts(DATABASE, outside=["a3", "b1"], primary="a1")
    now = {name: replace(one, database_cluster=left[name].database_cluster) for name, one in STANDING.items()}
    yield "back to the primary", plan_rollback(renew, now, now=NOW)
    apart = database_facts(DATABASE, outside=EVERYBODY)
    now = {name: replace(one, database_cluster=apart[name].database_cluster) for name, one in STANDING.items()}
    yield "back as a whole", plan_rollback(renew, now, now=NOW)


PLANS = dict([*_renewals(), *_databases()])


def sentences_of(plan: Plan) -> Iterator[str]:
    """Yield everything that pages show of a plan in words."""
    yield from plan.notices
    for lane in plan_view.lane_bodies(plan):
        yield lane.why
        for part in lane.parts:
            yield part.title
            yield part.way_back
            yield from (one.what for one in part.interrupts)
        if lost := gate_view._lost(list(plan.lane(lane.name).steps())):
            yield lost


@pytest.mark.parametrize("name", PLANS)
def test_every_sentence_of_a_plan_is_korean(name):
    assert [one for one in dict.fromkeys(sentences_of(PLANS[name])) if one and english(one)] == []


def english(sentence: str) -> bool:
    """Return whether some of *sentence* stays English."""
    shown = sentences.said(sentence)
    return 'lang="en"' in shown or shown == escape(sentence)


def test_every_stage_of_a_plan_has_a_korean_name():
    for name in {*stages.STAGES.values(), *stages.DATABASE_STAGES.values()}:
        assert re.search("[가-힣]", words.stage_called(name)), name


def test_the_stage_that_makes_servers_trust_each_other_is_not_called_host_keys():
    texts.speak("en")
    assert words.stage_called("trust") == words.stage(600) == "trust"


# ── what modules say ─────────────────────────────────────────────────────────────────────────────────────────────────
HERE = Path(__file__).parent
WORKERS = (
    *("attempt", "connections", "context", "control", "credentials", "files", "issuers", "login", "outage_circuit"),
    *("rollback", "served", "session", "shell"),
)
WHOLE = (
    "workflows/gate.py",
    "workflows/papers.py",
    "workflows/actions.py",
    "workflows/preview.py",
    *(f"workflows/x509/{name}.py" for name in ("acceptance", "chain", "match", "pile", "renewal")),
    "workflows/people.py",
    "workflows/inventory/selecting.py",
    *(f"workflows/journal/{name}.py" for name in ("accounts", "asked", "entries", "gates", "lanes", "runs", "votes")),
    *(f"workflows/procedures/{path.name}" for path in sorted((ROOT / "workflows/procedures").glob("*.py"))),
    "api/planning.py",
    "api/gate_view.py",
)
"""Modules in which every sentence has a template."""
REFUSALS = (
    "workflows/journal/claims.py",
    *(f"workers/{name}.py" for name in WORKERS),
    *(f"workers/steps/{path.name}" for path in sorted((ROOT / "workers/steps").glob("*.py"))),
    "workflows/journal/store.py",
    "workflows/journal/webhooks.py",
    *(
        str(path.relative_to(ROOT))
        for folder in ("api", "api/auth", "api/pages", "api/routes")
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.name not in {"client.py", "serving.py", "document.py"}  # the command line, a program's description
    ),
)
"""Modules of which errors and findings have templates; what else they say stands on no page."""
ONLY_INSIDE = frozenset(
    line.replace("␣", " ")
    for line in (HERE / "pieces_of_sentences.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
"""Pieces that stand in longer sentences only, and what is on no page; "7" is a value, "␣" a blank in front."""


@pytest.mark.parametrize("module", WHOLE)
def test_every_sentence_of_a_module_has_a_template(module):
    assert [f"{line}: {one}" for one, line in sentences_in(module).items() if untold(one)] == []


@pytest.mark.parametrize("module", REFUSALS)
def test_every_refusal_of_a_module_has_a_template(module):
    assert [f"{line}: {one}" for one, line in refusals_in(module).items() if untold(one)] == []


def test_every_kind_of_error_has_its_message_and_remedy_in_the_catalogues():
    module = "workflows/errors.py"
    every = messages_in(module) | sentences_in(module)
    assert [one for one in every if untold(one) and not one.startswith("One fault of the input")] == []


def untold(sentence: str) -> bool:
    return sentence not in ONLY_INSIDE and english(sentence)


COMPOSED = [line.replace("\\n", "\n") for line in (HERE / "whole_sentences.txt").read_text().splitlines()]
"""Sentences of which modules say only the pieces."""


@pytest.mark.parametrize("sentence", COMPOSED, ids=range(len(COMPOSED)))
def test_a_sentence_of_several_pieces_is_korean_as_a_whole(sentence):
    assert not english(sentence), sentences.said(sentence)


# ── how a sentence is found ──────────────────────────────────────────────────────────────────────────────────────────
def test_the_most_specific_template_is_taken():
    """What fits two templates is said by the one with more words of its own."""
    assert sentences.find("key and CSR a-1, made off the server") == (
        "key and CSR {name}, made off the server",
        {"name": "a-1"},
    )
    order = [sum(map(len, one.literal)) for one in sentences.templates()]
    assert order == sorted(order, reverse=True)


def test_a_template_is_found_by_what_it_says():
    """No other template takes a sentence of this one, so its own translation is what is shown."""
    for template in sentences.TEMPLATES:
        sentence = re.sub(r"\{\w+\}", VALUE, template)
        found = sentences.find(sentence)
        assert found is not None, template
        assert re.sub(r"\{\w+\}", VALUE, found[0]) == sentence


def test_a_translation_fills_in_the_same_values():
    for template in sentences.TEMPLATES:
        translated = texts.gettext(template)
        assert translated != template
        assert set(re.findall(r"\{(\w+)\}", translated)) == set(re.findall(r"\{(\w+)\}", template)), template


def test_a_value_that_stands_twice_must_be_the_same():
    said = "a2: joins {}; its data is overwritten by that of a1"
    assert sentences.find(said.format("a1")) is not None
    assert sentences.find(said.format("a9")) is None


@pytest.mark.parametrize(
    ("word", "text", "said"),
    [
        ("cmscore1", "을(를) 본다", "을 본다"),
        ("cmscore2", "을(를) 본다", "를 본다"),
        ("10", "이(가) 있다", "이 있다"),
        ("서버", "은(는) 간다", "는 간다"),
        ("백업", "와(과) 함께", "과 함께"),
        ("a4", "와(과) 함께", "와 함께"),
        ("a1", "(으)로 간다", "로 간다"),
        ("a3", "(으)로 간다", "으로 간다"),
        ("webadmin", "을(를) 본다", "을 본다"),
        ("callbridge.crt", "을(를) 본다", "를 본다"),
        ("seoul", "을(를) 본다", "을(를) 본다"),
        ("", "을(를) 본다", "을(를) 본다"),
        ("cmscore1", "의 데이터", "의 데이터"),
    ],
)
def test_a_particle_fits_the_word_before_it_where_its_reading_is_known(word, text, said):
    assert particles.after(word, text) == said


def test_a_sentence_that_looks_like_another_is_left_alone():
    """A list of names is words with commas, so a sentence about nodes is not taken for one."""
    assert sentences.find("a1, b2 name c3") is not None
    assert sentences.find("no reader of this names a primary that is here") is None


@pytest.mark.parametrize(
    "sentence", ["Nobody has seen this before.", "x", "seoul/a1/apply/callbridge", "9:30: so it is"]
)
def test_an_unknown_sentence_stays_as_it_is_and_is_marked_as_english(sentence):
    assert sentences.said(sentence) == f'<span lang="en">{sentence}</span>'
    assert (sentences.plainly(sentence), sentences.original(sentence)) == (sentence, "")


def test_what_is_known_of_a_longer_text_is_said_and_the_rest_stays():
    shown = sentences.said("a1: still as approved; the moon is full")
    assert shown == 'a1: 승인된 상태 그대로인지 확인합니다; <span lang="en">the moon is full</span>'


def test_names_that_are_left_out_of_a_list_are_counted():
    shown = sentences.said("changed after their last survey: a1, a2 and 3 more")
    assert shown == "마지막 조사 뒤에 바뀐 서버: a1, a2 외 3개"


def test_the_full_stop_of_a_sentence_is_no_part_of_its_last_value():
    assert "seoul/go에서" in sentences.said("A new run goes back on a1: 1 step; it waits for approval at seoul/go.")


def test_values_are_escaped():
    assert "<b>" not in sentences.said("<b>: still as approved")
    assert "&lt;b&gt;" in sentences.said("key and CSR <b>")
    assert "&lt;b&gt;" in sentences.said("<b>no sentence</b> of ours")


def test_a_text_of_a_server_is_not_searched():
    text = "still as approved; " * 1000
    assert "lang" in sentences.said(text)


def test_a_text_of_very_many_pieces_is_not_taken_apart():
    """Whoever writes such a text, as a server in its reply, does not keep the page waiting."""
    text = "still as approved; " * (sentences.MOST_PIECES + 1)
    assert sentences.said(text) == f'<span lang="en">{text}</span>'
    assert "승인된 상태" in sentences.said("still as approved; " * 10)


def test_english_pages_show_the_sentence_itself():
    texts.speak("en")
    assert sentences.said("a1: still as approved & well") == escape("a1: still as approved & well")
    assert sentences.original("a1: still as approved") == ""


def test_the_english_original_stands_beside_a_translation():
    assert sentences.original("a1: still as approved") == "a1: still as approved"
