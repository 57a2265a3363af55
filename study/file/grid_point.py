"""One combination of a study file's grid: checked where it stands in the file, then typed."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from itnas.settings import DependenceSettings, SearchSettings
from study.file.messages import Problem, problems
from study.file.models import model_of, validated


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(validated(cls))


class GridPoint:
    """One combination of the grid: plain values, and what is wrong with them."""

    def __init__(
        self,
        dependence: dict[str, Any],
        search: dict[str, Any],
        swept: tuple[str, ...],
        where: tuple[str, ...] = (),
    ) -> None:
        self._dependence, self._search, self._where = dependence, search, where
        self.swept = swept
        """dotted keys of the grid"""

    def extended(self, key: str, index: int, value: Any) -> GridPoint:
        """This combination with one more key of the grid set."""
        where = (*self._where, f"grid.{key}[{index}]")
        if key == "dependence":
            return GridPoint(value, self._search, self.swept, where)
        section, _, name = key.partition(".")
        dependence, search = self._dependence, self._search
        if section == "search":
            search = {**search, name: value}
        elif isinstance(dependence, dict):
            dependence = {**dependence, name: value}
        return GridPoint(dependence, search, (*self.swept, key), where)

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each, with the place in the grid; [] if nothing is."""
        found: list[str] = []
        for cls, values in self._sections:
            try:
                _adapter(cls).validate_python(values)
            except ValidationError as error:
                for problem in problems(error, values, model_of(cls)):
                    found.append(self._place(cls, problem))
        return found

    def _place(self, cls: type, problem: Problem) -> str:
        section = "search." if cls is SearchSettings else "dependence."
        for where in self._where:  # a swept key is wrong in the grid, not in its section
            if where.startswith(f"grid.{section}{problem.path}["):
                return f"{where}: {problem.text}"
        entry = next((w for w in self._where if w.startswith("grid.dependence[")), "grid")
        prefix = "search" if cls is SearchSettings else entry
        return f"{prefix}.{problem.path}: {problem.text}".replace(".: ", ": ")

    @property
    def _sections(self) -> list[tuple[type, Any]]:
        return [(DependenceSettings, self._dependence), (SearchSettings, self._search)]

    @property
    def settings(self) -> tuple[DependenceSettings, SearchSettings]:
        """The typed settings of a combination without problems."""
        dependence, search = (
            _adapter(cls).validate_python(values) for cls, values in self._sections
        )
        return dependence, search
