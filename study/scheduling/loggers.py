"""Tune's own callbacks, for who watches curves in TensorBoard, MLflow or Weights & Biases.

A trial is one beginning of a pack: its config has the setting and the seeds, its metrics are the
pack's means by epoch. The study's record stays its tables.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import StudyError, first_line
from study.file.schema import StudyFile
from study.store.door import Storage

if TYPE_CHECKING:
    from ray.tune import Callback

NEEDS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""the package behind each logger"""
EVENTS = "logs/tensorboard"
EVENTS_OF_TRIALS = (
    *("on_trial_start", "on_trial_result", "on_trial_complete", "on_trial_recover"),
    *("on_trial_error", "on_experiment_end"),
)
"""what Tune's loggers listen to"""


def check_logger(file: StudyFile, folder: Storage) -> None:
    """`StudyError` where the logger's package is missing, or its files would have no place."""
    if file.logger == "none":
        return
    package = NEEDS[file.logger]
    if importlib.util.find_spec(package) is None:
        raise StudyError(f"logger: {file.logger} needs a package: pip install {package}")
    if file.logger == "tensorboard" and not folder.is_local:
        raise StudyError(
            f"logger: tensorboard writes into the study's folder, and {folder} is none on a disk; "
            "mlflow and wandb have servers"
        )


def logger_callbacks(
    file: StudyFile, folder: Storage, notify: Callable[[str], None]
) -> list[Callback]:
    """The callback of `logger`, if there is one, set up. Ray has been started.

    MLflow and Weights & Biases are told by their own environment variables where to write
    (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE). `StudyError` where they cannot start; what
    breaks later is told to `notify` and ends nothing.
    """
    if file.logger == "none":
        return []
    try:
        callback = _callback(file, folder)
        callback.setup()
    except Exception as error:  # whatever the package raises
        raise StudyError(f"logger: {file.logger} cannot be used ({first_line(error)})") from None
    return [_apart(callback, file.logger, notify)]


def _callback(file: StudyFile, folder: Storage) -> Callback:
    if file.logger == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(experiment_name=file.name)
    if file.logger == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        return WandbLoggerCallback(project=file.name, group=file.space)
    return _tensorboard(Path(folder.path(EVENTS)))


def _apart(callback: Callback, name: str, notify: Callable[[str], None]) -> Callback:
    """A callback that has been set up, whose trouble is told once; from then on it is left out.

    Tune ends the whole launch when a callback raises, such as of a server that is away for a while.
    """
    from ray.tune import Callback

    class Apart(Callback):
        broken = False

        def __getstate__(self) -> dict[str, Any]:
            """Tune pickles it for `Tuner.restore`, which nobody calls."""
            return {}

    def passed_on(event: str) -> Callable[..., None]:
        def hear(self: Apart, **info: Any) -> None:
            if self.broken:
                return
            try:
                getattr(callback, event)(**info)
            except Exception as error:  # whatever the package raises
                self.broken = True
                notify(f"logger: {name} has failed ({first_line(error)}); the study goes on")

        return hear

    for event in EVENTS_OF_TRIALS:
        setattr(Apart, event, passed_on(event))
    return Apart()


def _tensorboard(place: Path) -> Callback:
    """Tune's callback, with its files in the study: Tune's own folder does not outlive the launch.

    A pack has one folder, over all its beginnings.
    """
    from ray.tune.logger import TBXLoggerCallback

    class InStudy(TBXLoggerCallback):
        def log_trial_start(self, trial: Any) -> None:
            if trial not in self._trial_writer:
                folder = place / trial.config["pack"].pack_id
                self._trial_writer[trial] = self._summary_writer_cls(str(folder), flush_secs=10)
                self._trial_result[trial] = {}

    return InStudy()
