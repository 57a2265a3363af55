"""ITNAS: differentiable architecture search with inter-layer transition (arXiv 2011.14525).

A library in its own right: torch and numpy, no cluster, no files but the data's own.

>>> import itnas
>>> data = itnas.load_data(itnas.DataSettings("digits"))
>>> search = itnas.SearchSettings(epochs=10, channels=4, cells=1)
>>> setting = itnas.Setting("nas-bench-201", search, itnas.DependenceSettings("transition"))
>>> results = itnas.run_search(setting, seeds=range(3), data=data)
"""

from itnas.data import DataError, DataSettings, ImageData, load_data
from itnas.method.dependence import Dependence, build_dependence
from itnas.method.genotype import Genotype, derive
from itnas.method.network import build_network
from itnas.method.parameters import check_dependence
from itnas.method.records import CellRecord, EpochRecord, RunResult
from itnas.method.search import SearchPack, resolve, run_search, seconds_per_step
from itnas.method.spaces import SPACES, Space, get_space
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting

__all__ = [
    "SPACES",
    "CellRecord",
    "DataError",
    "DataSettings",
    "Dependence",
    "DependenceSettings",
    "EngineSettings",
    "EpochRecord",
    "Genotype",
    "ImageData",
    "RunResult",
    "SearchPack",
    "SearchSettings",
    "Seeds",
    "Setting",
    "Space",
    "build_dependence",
    "build_network",
    "check_dependence",
    "derive",
    "get_space",
    "load_data",
    "resolve",
    "run_search",
    "seconds_per_step",
]
