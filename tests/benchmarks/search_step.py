"""One search step of the engine against the plain form, interleaved in one process.

    python -m tests.benchmarks.search_step --config darts-full --pack 1

prints one JSON line. A step is one architecture update and one weight update of batch 64, on
random images. Needs torch and numpy alone: no Ray, no data, no network. Times are of the process
(CPU) or of the device between synchronisations (CUDA); the ratio is the median over pairs of a
plain step and an engine step per run, with the smallest and largest beside it. Peaks are the
process's resident memory (CPU) or the device's allocated memory (CUDA) during a step. Operator
calls are those of forward and backward passes, the engine's in the grouped layout that a GPU uses.
"""

import argparse
import ctypes
import gc
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

import itnas
from itnas.data import DataSettings, ImageData
from itnas.method.bilevel import SearchPack
from itnas.settings import DependenceSettings, EngineSettings, SearchSettings, Seeds, Setting
from tests.benchmarks.operators import engine_calls, plain_calls
from tests.reference.search import PlainSearch

BATCH = 64
CONFIGS = {  # space, channels, cells, resolution, image channels
    "darts-full": ("darts", 16, 8, 32, 3),
    "darts-proxy": ("darts", 4, 3, 8, 1),
    "nb201-full": ("nas-bench-201", 16, 5, 32, 3),
    "nb201-proxy": ("nas-bench-201", 8, 1, 16, 3),
    **{f"{s}-proxy": (s, 4, 3, 8, 1) for s in ("s1", "s2", "s3", "s4")},
}


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
    """Seconds and peak memory of one call."""

    def __init__(self, device):
        self.cuda = torch.device(device).type == "cuda"
        self.peak = 0.0

    def __call__(self, step):
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            step()
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            self.peak = max(self.peak, torch.cuda.max_memory_allocated() / 2**20)
            return seconds
        _forget_peak()
        started = time.process_time()
        step()
        seconds = time.process_time() - started
        self.peak = max(self.peak, _peak_mib())
        return seconds


def _forget_peak():
    """Give freed memory back and start the kernel's peak counter anew (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))


def measure(config, pack=1, repeats=3, engine=None, model="transition", count=True):
    """The benchmark's line as a dict."""
    engine = engine or EngineSettings()
    space, channels, cells, resolution, image_channels = CONFIGS[config]
    search = SearchSettings(
        epochs=1, batch_size=BATCH, channels=channels, cells=cells,
        architecture_lr=3e-4, transition_lr=3e-4, attention_lr=3e-4,
    )  # fmt: skip
    setting = Setting(space, search, DependenceSettings(model))
    data = random_data(resolution, image_channels)
    seeds = [Seeds.all(n) for n in range(pack)]
    setting = itnas.resolve(setting, data)
    ours = SearchPack([setting] * pack, seeds, data, engine)
    ours.weight_optimizer.set_rates([search.weights_lr] * pack)
    theirs = PlainSearch(
        setting, seeds[0], image_channels, data.classes, engine.device, ours.engine.dtype
    )
    images, labels = next(ours.batches.training("weights", 0))
    ours.engine.moment = (0, 0)

    def plain_step():
        theirs.architecture_step(images[0], labels[0])
        theirs.weight_step(images[0], labels[0])

    def engine_step():
        ours.step(images, labels, images, labels)

    calls = {}
    if count:
        grouped = SearchPack(
            [setting] * pack, seeds, data, replace(engine, layout="groups", graphs=False)
        )
        few = images[:, :2], labels[:, :2]  # the count does not depend on the batch
        calls = {
            "plain_operator_calls": plain_calls(theirs, images[0, :2], labels[0, :2]),
            "engine_operator_calls_per_run": engine_calls(grouped, *few) / pack,
        }
        del grouped
    plain, packed = Meter(engine.device), Meter(engine.device)
    plain_step()
    for _ in range(4 if engine.graphs else 1):
        engine_step()
    pairs = [(plain(plain_step), packed(engine_step) / pack) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    return {
        "config": config,
        "device": torch.cuda.get_device_name() if plain.cuda else "cpu",
        "threads": torch.get_num_threads(),
        "pack": pack,
        "precision": engine.precision,
        "backend": type(ours.engine.backend).__name__.lower(),
        "repeats": repeats,
        "plain_seconds": round(statistics.median(a for a, _ in pairs), 5),
        "engine_seconds_per_run": round(statistics.median(b for _, b in pairs), 5),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "plain_peak_mib": round(plain.peak, 1),
        "engine_peak_mib": round(packed.peak, 1),
        **calls,
    }


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", choices=CONFIGS, required=True)
    parser.add_argument("--pack", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    for name in ("precision", "layout", "kernels"):
        parser.add_argument(f"--{name}", default=getattr(EngineSettings(), name))
    for name in ("compile", "channels-last", "graphs"):
        parser.add_argument(f"--{name}", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    engine = EngineSettings(
        device=given.device, precision=given.precision, layout=given.layout,
        kernels=given.kernels, compile=given.compile, channels_last=given.channels_last,
        graphs=given.graphs,
    )  # fmt: skip
    print(json.dumps(measure(given.config, given.pack, given.repeats, engine)), flush=True)


if __name__ == "__main__":
    main()
