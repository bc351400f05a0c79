"""Korean particles that depend on how the word before them ends: "cmscore1을", "cmscore2를".

Texts of the catalogue write both forms, "{node}을(를)". Here the right one is taken where the ending is known: Hangul,
digits as they are read, names of services and of kinds of files. How another Latin word is read nobody knows from its
letters, so there both forms stay.
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
_READ: Mapping[str, str] = {
    ".crt": "티", ".key": "키", ".csr": "알", ".pem": "엠", ".https": "스", ".c2w": "유", "callbridge": "지",
    "webbridge": "지", "webadmin": "민", "turn": "턴", "xmpp": "피", "loadbalancer": "서", "recorder": "더",
    "streamer": "머", "scheduler": "러", "Auth": "스",
}  # fmt: skip
"""The last syllable of words as they are read."""
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
    read = next((syllable for end, syllable in _READ.items() if word.endswith(end)), word[-1:])
    last = _DIGITS.get(read, read)
    if not last or not _FIRST <= ord(last) <= _LAST:
        return None
    return (ord(last) - _FIRST) % 28
