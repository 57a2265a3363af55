"""What `tests.benchmarks.search_step` measures; importable where torch may be loaded already."""

import contextlib
import ctypes
import gc
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

import itnas
from itnas.data import DataSettings, ImageData
from itnas.method.search import SearchPack
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.benchmarks.operators import engine_calls, plain_calls
from tests.reference.search import PlainSearch

BATCH = 64
SHAPES = {  # space, channels, cells, resolution, image channels
    "darts-full": ("darts", 16, 8, 32, 3),
    "darts-proxy": ("darts", 4, 3, 8, 1),
    "nb201-full": ("nas-bench-201", 16, 5, 32, 3),
    "nb201-proxy": ("nas-bench-201", 8, 1, 16, 3),
    **{f"{s}-proxy": (s, 4, 3, 8, 1) for s in ("s1", "s2", "s3", "s4")},
}
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def random_data(resolution, channels, classes=10):
    """Images without content, three batches of them."""
    n = 3 * BATCH
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        256, (n, channels, resolution, resolution), generator=generator, dtype=torch.uint8
    )
    labels = torch.arange(n) % classes
    settings = DataSettings("digits", resolution=resolution, crop=False, flip=False)
    names = tuple(str(c) for c in range(classes))
    return ImageData(settings, images, labels, images[:10], labels[:10], names)


class Meter:
    """Seconds of a step (of the process or the device, and by the clock), and its peak memory."""

    def __init__(self, device, step, runs=1, *, steady=False):
        self.cuda = torch.device(device).type == "cuda"
        self.step, self.runs, self.steady = step, runs, steady
        self.peak, self.seconds, self.wall = 0.0, [], []

    def warm_up(self, steps):
        """Untimed steps."""
        self._start()
        for _ in range(steps):
            self.step()
        self._stop()

    def measure(self):
        """One more step. Unless `steady`, what was freed before is given back first, as it is for
        the first step of a process: asking for memory again is part of the time.
        """
        gc.collect()
        if self.cuda or not self.steady:
            self._start()
        process, clock = time.process_time(), time.perf_counter()
        self.step()
        if self.cuda:
            torch.cuda.synchronize()
        wall = (time.perf_counter() - clock) / self.runs
        own = wall if self.cuda else (time.process_time() - process) / self.runs
        self.wall.append(wall)
        self.seconds.append(own)
        if self.cuda or not self.steady:
            self._stop()

    def _start(self):
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            _forget_peak()

    def _stop(self):
        found = torch.cuda.max_memory_allocated() / 2**20 if self.cuda else _peak_mib()
        self.peak = max(self.peak, found)

    @property
    def median(self):
        """Seconds per run."""
        return statistics.median(self.seconds)


def _forget_peak():
    """Give freed memory back and start the kernel's peak counter anew (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))


@contextlib.contextmanager
def user_flags(device, precision):
    """What a user of the plain form would set on a GPU: autotuning, nothing deterministic."""
    if torch.device(device).type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark, cudnn.deterministic = True, False
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = before


class PlainStep:
    """A step of the plain form, as a user would run it."""

    def __init__(self, setting, data, engine, dtype, batch, *, channels_last):
        self.search = PlainSearch(
            setting, Seeds.all(0), data.channels, data.classes, engine.device, dtype,
            half=HALF.get(engine.precision),
        )  # fmt: skip
        self.engine, (images, self.labels) = engine, batch
        self.images = images
        if channels_last:
            self.search.network.to(memory_format=torch.channels_last)
            self.images = images.contiguous(memory_format=torch.channels_last)

    def __call__(self):
        with user_flags(self.engine.device, self.engine.precision):
            self.search.architecture_step(self.images, self.labels)
            self.search.weight_step(self.images, self.labels)


def measure(
    config, pack=1, repeats=3, threads=1, model="transition", march="native", steady=False, **engine
):
    """The benchmark's line as a dict. ValueError for engine settings that exclude each other."""
    settings = EngineSettings(**engine)
    torch.set_num_threads(threads)
    space, channels, cells, resolution, image_channels = SHAPES[config]
    search = SearchSettings(
        epochs=1, batch_size=BATCH, channels=channels, cells=cells,
        architecture_lr=3e-4, transition_lr=3e-4, attention_lr=3e-4,
    )  # fmt: skip
    data = random_data(resolution, image_channels)
    setting = itnas.resolve(Setting(space, search, DependenceSettings(model)), data)
    seeds = [Seeds.all(n) for n in range(pack)]
    ours = SearchPack([setting] * pack, seeds, data, settings)
    ours.weight_optimizer.set_rates([search.weights_lr] * pack)
    images, labels = next(ours.batches.training("weights", 0))
    ours.engine.moment = (0, 0)
    plain, last = (
        PlainStep(
            setting, data, settings, ours.engine.dtype, (images[0], labels[0]), channels_last=flag
        )
        for flag in (False, True)
    )
    grouped = SearchPack(
        [setting] * pack, seeds, data, replace(settings, layout="groups", graphs=False)
    )
    few = images[:, :2], labels[:, :2]  # the count does not depend on the batch
    calls = {
        "plain_operator_calls": plain_calls(plain.search, images[0, :2], labels[0, :2]),
        "engine_operator_calls_per_run": engine_calls(grouped, *few) / pack,
    }
    del grouped
    meters = [
        Meter(settings.device, plain, steady=steady),
        Meter(settings.device, last, steady=steady),
        Meter(
            settings.device, lambda: ours.step(images, labels, images, labels), pack, steady=steady
        ),
    ]
    for meter in meters:
        meter.warm_up(5 if settings.graphs else 1)
    for _ in range(repeats):
        for meter in meters:
            meter.measure()
    one, two, own = meters
    return {
        "config": config,
        "device": torch.cuda.get_device_name() if own.cuda else "cpu",
        "march": march,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "pack": pack,
        "precision": settings.precision,
        "backend": ours.engine.backend_name,
        "repeats": repeats,
        "steady": steady,
        "plain_seconds": round(one.median, 5),
        "plain_channels_last_seconds": round(two.median, 5),
        "engine_seconds_per_run": round(own.median, 5),
        **_ratios("ratio", one, own),
        **_ratios("ratio_channels_last", two, own),
        **(_walls(one, two, own) if threads > 1 else {}),
        "plain_peak_mib": round(one.peak, 1),
        "plain_channels_last_peak_mib": round(two.peak, 1),
        "engine_peak_mib": round(own.peak, 1),
        **calls,
    }


def _ratios(name, plain, own):
    found = [a / b for a, b in zip(plain.seconds, own.seconds, strict=True)]
    return {
        name: round(statistics.median(found), 3),
        f"{name}_low": round(min(found), 3),
        f"{name}_high": round(max(found), 3),
    }


def _walls(plain, last, own):
    return {
        "plain_wall_seconds": round(statistics.median(plain.wall), 5),
        "plain_channels_last_wall_seconds": round(statistics.median(last.wall), 5),
        "engine_wall_seconds_per_run": round(statistics.median(own.wall), 5),
    }
