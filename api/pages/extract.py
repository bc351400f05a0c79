"""Make the catalogues anew from templates and code: `python -m api.pages.extract` (`make texts`).

`certbridge.pot` lists every text, the `.po` of each language keeps what is translated and gets what is new, empty. No
text is guessed from one that looks like it: a translation that is nearly right is wrong.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

API = Path(__file__).parents[1]
LOCALE = API / "locale"
METHODS = [("pages/**.py", "python"), ("templates/**.html", "jinja2.ext.babel_extract")]
OPTIONS = {"templates/**.html": {"trimmed": "true", "encoding": "utf-8"}}


def template() -> Catalog:
    """Return the catalogue of all texts of pages and templates, in English."""
    catalogue = Catalog(project="certbridge", charset="utf-8", fuzzy=False)
    found = extract_from_dir(str(API), method_map=METHODS, options_map=OPTIONS, keywords=_keywords(), comment_tags=())
    for name, _line, message, _comments, context in sorted(found, key=lambda one: (one[0], one[1])):
        if not name.startswith("templates/report"):  # the report is a document for archives, in English
            catalogue.add(message, context=context, locations=[(name, 1)])
    return catalogue


def texts_of(catalogue: Catalog) -> set[str]:
    """Return the texts of *catalogue* without its head."""
    return {one.id if isinstance(one.id, str) else one.id[0] for one in catalogue if one.id}


def rendered(catalogue: Catalog) -> bytes:
    """Return *catalogue* as the file that is kept: no dates and no line numbers, so that it changes with texts only."""
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=120, omit_header=True, include_lineno=False, sort_by_file=True)
    header = b'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    plural = b"" if catalogue.locale is None else f'"Plural-Forms: {catalogue.plural_forms}\\n"\n'.encode()
    return header + plural + b"\n" + buffer.getvalue()


def main() -> int:
    """Write the catalogues and say what is not translated yet."""
    pot = template()
    (LOCALE / "certbridge.pot").write_bytes(rendered(pot))
    missing = 0
    for file in sorted(LOCALE.glob("*/certbridge.po")):
        with file.open("rb") as stream:
            kept = read_po(stream, locale=file.parent.name)
        kept.update(pot, no_fuzzy_matching=True)
        kept.obsolete.clear()
        file.write_bytes(rendered(kept))
        empty = [one.id for one in kept if one.id and (not one.string or not all(one.string))]
        missing += len(empty)
        sys.stdout.write(f"{file.parent.name}: {len(kept)} texts, {len(empty)} without a translation\n")
    return 1 if missing else 0


def _keywords() -> dict[str, tuple[int, ...] | None]:
    return {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}


if __name__ == "__main__":
    raise SystemExit(main())
