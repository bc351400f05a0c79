"""What all bodies share: a page of a list and how it is asked for, and words of people."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")


class Body(BaseModel):
    """A body that is taken; a name that is not known is a fault, not ignored."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Page(BaseModel, Generic[T]):
    """A part of a list: `items`, how many there are in all, and where the next part begins (None: this is the end)."""

    items: list[T]
    total: int
    next_offset: int | None = None


def _check_words(text: str) -> str:
    lines = text.replace("\r\n", "\n")  # as a browser sends what was written into a field of several lines
    if any(not letter.isprintable() and letter not in "\n\t" for letter in lines):
        raise ValueError("only letters that can be printed, and line ends")
    return lines


Words = Annotated[str, Field(max_length=2000), AfterValidator(_check_words)]
"""What somebody says, for the journal: nothing that a terminal would carry out."""
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")]


def page_of(items: list[T], total: int, limit: int, offset: int) -> Page[T]:
    """Return the part of a list of *total* that begins at *offset*."""
    following = offset + limit
    return Page(items=items, total=total, next_offset=following if following < total else None)
