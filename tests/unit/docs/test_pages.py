"""README and docs/ say what is true: links lead somewhere, commands are those of the CLI, settings are read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api.cli import app
from simulator.faults import FaultKind
from workflows.settings import Settings

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "newsfragments").glob("*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SETTING = re.compile(r"CERTBRIDGE_[A-Z_]+")
# At the beginning of a line or of a command: "make the first …" may stand in what a program says.
_TARGET = re.compile(r"(?:^\s*|&& )make ([a-z]+)\b", re.MULTILINE)
# What a page writes for "any run", "any file": it takes the place of a value, and is none that the CLI must know.
_PLACEHOLDERS = {"FILE…", "NODE…", "[OPTIONS]", "COMMAND", "[ARGS]..."}
# Read outside of workflows.settings: by the tests (.ci/run).
_OTHER_VARIABLES = {
    "CERTBRIDGE_TOOLS_REQUIRED",
    "CERTBRIDGE_FAILPOINTS",
    "CERTBRIDGE_CHAOS",
    # Read by `api.cli.elsewhere`, which chooses between this machine and an API, and by docker-compose.yml.
    "CERTBRIDGE_API_URL",
    "CERTBRIDGE_TOKEN",
    "CERTBRIDGE_CA",
    "CERTBRIDGE_PROXY",
}
# Named by the inventory's reference for the next issue; README says under "What is not there yet" that it has not come.
_LATER: tuple[str, ...] = ()
_CREDENTIAL = "CERTBRIDGE_CREDENTIAL_"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(text: str) -> Iterator[str]:
    """Give the targets of the links in *text* that stand outside of code."""
    bare = _INLINE.sub("", _FENCE.sub("", text))
    yield from (target for target in _LINK.findall(bare) if not re.match(r"[a-z]+:", target))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of *page*, made as Git forges make them."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def typed(text: str) -> Iterator[str]:
    """Give every `certbridge …` line of the shell blocks of *text*, without what a shell adds."""
    for language, block in _FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                yield from _commands(line.split(" #")[0])


def mentioned(text: str) -> Iterator[str]:
    """Give every `certbridge …` of the inline code of *text*; the value of its last option may be left out there."""
    for code in _INLINE.findall(_FENCE.sub("", text)):
        yield from _commands(code)


def _commands(line: str) -> Iterator[str]:
    for part in re.split(r"[;|&]| < ", line):
        found = re.match(r"(?:\.venv/bin/)?certbridge\s+(.+)", part.strip())
        if found:
            yield found[1]


def problem(line: str) -> str:
    """Return what the CLI would not know of a command line ("" when it knows all of it)."""
    # Typer carries a Click of its own, so what a thing is is asked of the thing.
    here: Any = typer.main.get_command(app)
    here.name = "certbridge"
    takes_value: Any = None
    for word in shlex.split(line):
        if takes_value is not None:
            takes_value = None
        elif word in _PLACEHOLDERS or word == "…":
            continue
        elif word.startswith("-") and not word.startswith("-o="):
            flag = word.split("=")[0]
            options = {text: one for one in here.params if one.param_type_name == "option" for text in one.opts}
            if flag in {"--help", "-h"}:
                continue
            if flag not in options:
                return f"`{here.name}` has no option {flag}"
            takes_value = None if options[flag].is_flag or "=" in word else options[flag]
        elif hasattr(here, "commands"):
            known = here.commands
            # `up|down` stands for several commands of one group.
            unknown = [one for one in word.split("|") if one not in known]
            if unknown:
                return f"`{here.name}` has no command {unknown[0]}"
            here = known[word.split("|")[0]]
        elif not any(one.param_type_name == "argument" for one in here.params):
            return f"`{here.name}` takes no {word}"
    return f"the option {takes_value.opts[0]} lacks its value" if takes_value is not None else ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file(page: Path):
    """A link to a page that is not there is a dead end for whoever needs it."""
    missing = [target for target in links(page.read_text()) if not (page.parent / target.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_anchor_is_a_heading_of_its_page(page: Path):
    """The part behind `#` names a heading that is there."""
    missing = []
    for target in links(page.read_text()):
        file, _, anchor = target.partition("#")
        if anchor and anchor not in anchors((page.parent / file) if file else page):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_shown_is_one_that_the_cli_knows(page: Path):
    """Commands, options and arguments in shell blocks and inline code are those of today's CLI."""
    text = page.read_text()
    wrong = [(line, why) for line in typed(text) if (why := problem(line))]
    wrong += [
        (line, why)
        for line in mentioned(text)
        if line not in _LATER and (why := problem(line)) and "lacks its value" not in why
    ]
    assert wrong == []


def test_what_comes_later_is_not_there_yet():
    """When a command promised for later has come, it is checked like all the others."""
    assert [line for line in _LATER if not problem(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_named_is_read(page: Path):
    """A variable that nothing reads would be set in vain; credentials have names of the user's own."""
    read = {f"CERTBRIDGE_{field.upper()}" for field in Settings.model_fields} | _OTHER_VARIABLES
    named = {one for one in _SETTING.findall(page.read_text()) if not one.startswith(_CREDENTIAL)}
    assert sorted(named - read) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_named_is_there(page: Path):
    """`make …` in code is a verb of the Makefile."""
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    code = [*(block for _, block in _FENCE.findall(text)), *_INLINE.findall(_FENCE.sub("", text))]
    named = {verb for one in code for verb in _TARGET.findall(one)}
    assert sorted(named - verbs) == []


def test_every_page_is_reached_from_the_index():
    """A page that the index does not name is found by nobody."""
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / target.partition("#")[0]).resolve() for target in links(index.read_text())}
    pages = {page.resolve() for page in PAGES if page.is_relative_to(ROOT / "docs")} - {index}
    assert sorted(name(page) for page in pages - named) == []


def test_every_fault_of_the_simulator_has_its_row():
    """Whoever wants to break something finds how, and none that is not there."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (?:a |an |`|\|)", (ROOT / "docs/howto/try-faults.md").read_text(), re.MULTILINE
    )
    assert rows == [kind.value for kind in FaultKind]


def test_readme_names_both_commands():
    """Whoever opens the README sees how to try it and how to test it."""
    assert {"make demo", "make test"} <= set(_INLINE.findall((ROOT / "README.md").read_text()))


def test_readme_shows_the_picture_that_the_program_makes():
    """The picture is there, is an SVG, and fetches nothing from anywhere."""
    picture = (ROOT / "docs" / "images" / "demo.svg").read_text()
    assert "docs/images/demo.svg" in links((ROOT / "README.md").read_text())
    assert picture.startswith("<svg")
    assert "url(http" not in picture


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("gates approve --gate sign", ""),
        ("runs resume RUN", ""),
        ("runs undo RUN", "`runs` has no command undo"),
        ("plan --soon", "`plan` has no option --soon"),
        ("plan --within", "the option --within lacks its value"),
        ("down now", "`down` takes no now"),
    ],
)
def test_a_command_that_the_cli_does_not_know_is_told(line: str, why: str):
    """The check itself sees unknown commands, options, and arguments too many or too few."""
    assert problem(line) == why
