"""Bytes of a terminal in, plain text out: the lowest layer of a conversation.

Here lives what a terminal would do before a person sees text: UTF-8, escape sequences, line ends. Not here: what the
text means (`mmp.conversation`). The state is kept between calls, so bytes may be cut anywhere and the text stays the
same.
Sources: ECMA-48 section 5.4 and 8.3.16 (control sequences), xterm's bracketed paste (a CSI like others), RFC 854 (CR
LF, CR NUL).
"""

from __future__ import annotations

import codecs
import re
from enum import Enum, auto

_RUN = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f-\x9f]+")
_LONGEST_SEQUENCE = 4096  # an unfinished sequence may not swallow a whole reply


class _State(Enum):
    TEXT = auto()
    ESCAPE = auto()  # after ESC
    CHARSET = auto()  # after ESC ( and the like: one more
    CONTROL = auto()  # after ESC [
    STRING = auto()  # after ESC ] P X ^ _: ends with BEL or ESC \


_AFTER_ESCAPE = {
    "[": _State.CONTROL,
    **dict.fromkeys("]PX^_", _State.STRING),
    **dict.fromkeys("()*+-./ #%", _State.CHARSET),
    "\x1b": _State.ESCAPE,
}


class Terminal:
    """Turns bytes into text whose only control characters are tab and line feed, one line feed for each line end."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = _State.TEXT
        self._length = 0
        self._after_return = False

    def feed(self, data: bytes) -> str:
        """Return the text that *data* adds; "" while a character or sequence is incomplete. Never raises."""
        text = self._decoder.decode(data)
        shown: list[str] = []
        position = 0
        while position < len(text):
            run = _RUN.match(text, position) if self._state is _State.TEXT else None
            if run:
                shown.append(run[0])
                self._after_return = False
                position = run.end()
                continue
            char = text[position]
            position += 1
            if char in "\r\n":
                # A line end also ends a broken sequence: nothing may hide the lines that follow.
                self._state = _State.TEXT
                shown.append(self._line_end(char))
            elif self._state is _State.TEXT:
                self._control(char)
            else:
                shown.append(self._sequence(char))
        return "".join(shown)

    def _line_end(self, char: str) -> str:
        """CR LF, CR CR LF, CR NUL, CR and LF are one line end each."""
        if char == "\r":
            first, self._after_return = not self._after_return, True
            return "\n" if first else ""
        first, self._after_return = not self._after_return, False
        return "\n" if first else ""

    def _control(self, char: str) -> None:
        if char == "\x1b":
            self._enter(_State.ESCAPE)
        elif char == "\x9b":  # the same as ESC [ in one character
            self._enter(_State.CONTROL)

    def _enter(self, state: _State) -> None:
        self._state = state
        self._length = 0

    def _ends(self, char: str) -> bool:
        if self._state is _State.STRING:
            return char == "\x07"
        return self._state is _State.CHARSET or not " " <= char <= "?"

    def _sequence(self, char: str) -> str:
        """Take one character of a sequence; return it when it turns out to be text."""
        self._length += 1
        if char == "\x1b" and self._state is not _State.ESCAPE:
            self._enter(_State.ESCAPE)
        elif self._state is _State.ESCAPE:
            self._state = _AFTER_ESCAPE.get(char, _State.TEXT)
        elif self._ends(char):
            self._state = _State.TEXT
        elif self._length > _LONGEST_SEQUENCE:
            self._state = _State.TEXT
            return char if char.isprintable() else ""
        return ""
