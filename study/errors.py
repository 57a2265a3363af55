"""The one exception of this package that a user is meant to read, and others told in a line."""

from __future__ import annotations


class StudyError(Exception):
    """Something the user can mend, found before anything ran (design, 6: exit status 2).

    `lines` are printed as they are, so each says what is wrong, where, and what is allowed.
    """

    status = 2

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(_visible(line) for line in lines)
        super().__init__("\n".join(self.lines))


class LaunchEnded(StudyError):  # noqa: N818
    """A launch that ran cannot go on (exit status 1); what is complete stays."""

    status = 1


def first_line(error: Exception) -> str:
    """The first line of an error's message; its kind where it says nothing."""
    return _lines(error)[0]


def with_kind(error: Exception, line: int = 0) -> str:
    """An error's kind and one line of its message (-1: the last), such as `KeyError: 'a'`."""
    kind, text = type(error).__name__, _lines(error)[line]
    return kind if text == kind else f"{kind}: {text}"


def _visible(line: str) -> str:
    """What a user wrote may hold anything: a line stays one, and shows what is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _lines(error: Exception) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]
