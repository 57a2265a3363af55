"""One search step of the engine against the plain form, interleaved in one process.

    python -m tests.benchmarks.search_step --config darts-full --pack 1

prints one JSON line. A step is one architecture update and one weight update of batch 64, on
random images. Needs torch and numpy alone: no Ray, no data, no network. `ratio` is the plain form's
step by the engine's per run, `ratio_channels_last` the same with the plain form in channels_last,
one line that a user would write: medians over rounds of one step each, with the smallest and
largest beside them. Seconds are of the process (CPU) or of the device between synchronisations
(CUDA); with more than one thread wall seconds are told too. Peaks are the process's resident memory
(CPU) or the device's allocated memory (CUDA) during a step. Operator calls are those of forward and
backward passes, the engine's in the grouped layout that a GPU uses.

Before each step what was freed is given back to the system, so that a step pays for all the memory
it takes and peaks are its own; `--steady` leaves it, as a loop of one form alone does, which
favours the form that takes more.

`--march x86-64-v3` builds the kernels for that target and holds torch to the same instructions, in
both forms: a machine with AVX-512 shows what a user with AVX2 gets.
"""

import argparse
import json
import os
import sys

TARGETS = {  # target of the compiler: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA
    "x86-64-v2": ("default", "SSE41"),
    "x86-64-v3": ("avx2", "AVX2"),
    "x86-64-v4": ("avx512", "AVX512_CORE"),
}
CONFIGS = ("darts-full", "darts-proxy", "nb201-full", "nb201-proxy")
PROXIES = ("s1-proxy", "s2-proxy", "s3-proxy", "s4-proxy")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", choices=(*CONFIGS, *PROXIES), required=True)
    parser.add_argument("--pack", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--march", choices=("native", *TARGETS), default="native")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--layout", default="auto")
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--steady", action="store_true", help="keep freed memory between steps")
    for name in ("compile", "channels-last", "graphs"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def hold_to(march):
    """Hold kernels and torch to one instruction set; exit 2 where this machine lacks it.

    Both read the environment when torch is loaded, so this comes before any import of it.
    """
    if march == "native":
        return
    assert "torch" not in sys.modules, "torch has chosen its instructions already"
    os.environ["ATEN_CPU_CAPABILITY"], os.environ["ONEDNN_MAX_CPU_ISA"] = TARGETS[march]
    os.environ["ITNAS_MARCH"] = march
    from itnas.kernels.processor import supported_targets  # loads torch, after what was just set

    if march not in supported_targets():
        known = ", ".join(supported_targets()) or "none of the portable targets"
        print(f"--march: {march} is not supported by this machine; it has {known}", file=sys.stderr)
        raise SystemExit(2)


def main():
    """Command line."""
    given = arguments()
    hold_to(given.march)
    from tests.benchmarks.step_timing import measure

    try:
        line = measure(
            given.config, given.pack, given.repeats, given.threads, march=given.march,
            steady=given.steady,
            device=given.device, precision=given.precision, layout=given.layout,
            kernels=given.kernels, compile=given.compile, channels_last=given.channels_last,
            graphs=given.graphs,
        )  # fmt: skip
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
