"""Korean particles that depend on how the word before them ends: "cmscore1을", "cmscore2를".

Texts of the catalogue write both forms, "{node}을(를)". Here the right one is taken where the ending is known: Hangul,
and digits as they are read. How a Latin word is read nobody knows from its letters, so there both forms stay.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMS: Mapping[str, tuple[str, str]] = {
    "을(를)": ("을", "를"),
    "이(가)": ("이", "가"),
    "은(는)": ("은", "는"),
    "와(과)": ("과", "와"),
    "(으)로": ("으로", "로"),
    "(이)라고": ("이라고", "라고"),
}
"""As it is written in the catalogue: (behind a consonant, behind a vowel)."""
_DIGITS = {"0": "영", "1": "일", "2": "이", "3": "삼", "4": "사", "5": "오", "6": "육", "7": "칠", "8": "팔", "9": "구"}
_FIRST, _LAST, _RIEUL = ord("가"), ord("힣"), 8


def after(word: str, text: str) -> str:
    """Return *text*, which stands behind *word*, with the particle at its beginning in the form that fits."""
    written = next((one for one in FORMS if text.startswith(one)), "")
    ending = _ending(word)
    if not written or ending is None:
        return text
    consonant, vowel = FORMS[written]
    # 로 follows ㄹ as it follows a vowel.
    open_ended = ending == 0 or (written == "(으)로" and ending == _RIEUL)
    return (vowel if open_ended else consonant) + text.removeprefix(written)


def _ending(word: str) -> int | None:
    """Return the number of the final consonant of *word*, 0 without one, None where the reading is not known."""
    last = _DIGITS.get(word[-1:], word[-1:])
    if not last or not _FIRST <= ord(last) <= _LAST:
        return None
    return (ord(last) - _FIRST) % 28
