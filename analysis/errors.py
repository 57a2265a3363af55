"""The one error of this package that is meant for the user's eyes."""


class ResultsError(ValueError):
    """A results folder that cannot be analysed; its message is one line that says why."""
