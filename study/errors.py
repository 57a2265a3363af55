"""The one exception of this package that a user is meant to read."""

from __future__ import annotations


class StudyError(Exception):
    """Something the user can mend, found before anything ran (design, 6: exit status 2).

    `lines` are printed as they are, so each says what is wrong, where, and what is allowed.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
