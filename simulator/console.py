"""What a command sees of the person or program that typed it."""

from typing import Protocol


class Console(Protocol):
    """Where a command writes its output and asks its questions."""

    user: str
    peer: str  # address:port of the client

    def write(self, text: str) -> None:
        """Print *text*; lines end in a line feed."""

    async def key(self) -> str:
        """Return the next key pressed, without waiting for the end of the line."""

    async def secret(self) -> str:
        """Return a line typed without echo."""


class Script:
    """A console without a person: answers come from a list, output is collected in `text`."""

    user = "admin"
    peer = "127.0.0.1:0"

    def __init__(self, answers: tuple[str, ...] = ()) -> None:
        self.text = ""
        self._answers = list(answers)

    def write(self, text: str) -> None:
        """Keep *text*."""
        self.text += text

    async def key(self) -> str:
        """Return the next answer, or nothing when there is none left."""
        return self._answers.pop(0) if self._answers else ""

    async def secret(self) -> str:
        """Return the next answer, or nothing when there is none left."""
        return await self.key()
