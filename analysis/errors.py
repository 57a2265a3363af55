"""The one error of this package that is meant for the user's eyes."""


class ResultsError(ValueError):
    """A results folder that cannot be analysed; its message is one line that says why."""


def first_line(error: Exception) -> str:
    """The first line of an error's message; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
