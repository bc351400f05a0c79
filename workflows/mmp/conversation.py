"""tmp."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The complete answer to one line."""

    command: str
    text: str
    prompt: str = ""
    interrupted: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the text."""
        return tuple(self.text.splitlines())
