"""The study file: what it may say, how it is read, and the settings and runs it comes to."""

from study.file.schema import Benchmark, Resources, StudyFile, Tune, load_study

__all__ = ["Benchmark", "Resources", "StudyFile", "Tune", "load_study"]
