"""Release numbers, and which commands a release has (MMP reference 4.4).

First and last release are inclusive; None means "no limit". What is missing in the table exists in every release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A release such as 2.9 or 3.12; compared by number, not by text."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> "Release":
        """Return the release named by *text* ("3.9" or "3.9.1"). Raises: ValueError."""
        major, minor, *_ = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


_LAST_2 = Release(2, 9)
_FIRST_3 = Release(3, 0)

# The key is the beginning of a command line; the longest one that fits decides.
SPANS: Mapping[str, tuple[Release | None, Release | None]] = MappingProxyType(
    {
        "webbridge": (None, _LAST_2),
        "webbridge3": (Release(2, 9), None),
        "callbridge trust c2w": (Release(2, 9), None),
        "xmpp": (None, _LAST_2),
        "loadbalancer": (None, _LAST_2),
        "trunk": (None, _LAST_2),
        "h323_gateway": (None, _LAST_2),
        "recorder certs": (None, _LAST_2),
        "recorder listen": (None, _LAST_2),
        "recorder trust": (None, _LAST_2),
        "recorder sip": (_FIRST_3, None),
        "streamer certs": (None, _LAST_2),
        "streamer listen": (None, _LAST_2),
        "streamer trust": (None, _LAST_2),
        "streamer sip": (_FIRST_3, None),
        "uploader": (_FIRST_3, None),
        "scheduler": (Release(3, 3), None),
        "callbridge ucm": (Release(3, 8), None),
        "callbridge imps": (Release(3, 8), None),
        "pki sign": (Release(2, 7), None),
    }
)


def available(words: tuple[str, ...], release: Release) -> bool:
    """Tell whether *release* knows the command that begins with *words*."""
    for length in range(len(words), 0, -1):
        span = SPANS.get(" ".join(words[:length]))
        if span is not None:
            first, last = span
            return (first is None or release >= first) and (last is None or release <= last)
    return True
