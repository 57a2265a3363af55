#!/usr/bin/env python3
"""Command line of the study: parses, calls, prints (design, section 6)."""

from __future__ import annotations

import argparse
import json
import os
import select
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from study.errors import StudyError
from study.tuning import CONFIRM

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
WAIT_MINUTES = 30.0

OVERVIEW = """\
Seed studies of ITNAS, the search in which inner edges depend on their predecessors.

first steps, without a network or a GPU
  python run_study.py demo                               a small study, with its report
  python run_study.py plan study/examples/demo.yaml      the same study: what would run
  python run_study.py status results/demo
then your own
  python run_study.py launch STUDY.yaml                  again: resumes; more seeds: extends
"""
WHERE = """\
A study file is YAML; study/examples/ holds commented ones (they say whether they need the Hugging
Face Hub), and `plan --help` lists every setting with its default. Results are Parquet tables in
STORAGE/NAME. Exit status: 0 complete, 1 some runs failed, 2 refused before anything ran, 130
interrupted.
"""


class Parser(argparse.ArgumentParser):
    """argparse, with the study file's settings at the end of the help where they are used."""

    lists_settings = False

    def error(self, message: str) -> NoReturn:
        """One line, where argparse would print the usage first."""
        self.exit(REFUSED, f"{self.prog}: {message} ({self.prog} --help)\n")

    def format_help(self) -> str:
        """The help; the settings are gathered only when they are shown."""
        text = super().format_help()
        if self.lists_settings:
            from study.file.reference import settings_reference

            text += "\n" + settings_reference()
        return text


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Where nobody reads the output to its end (`| head -1`), that of a program ended by SIGPIPE.
    """
    try:
        try:
            return _run(arguments)
        finally:
            print(end="", flush=True)  # stdout is buffered: here, not at Python's own end
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what it still holds
        return 128 + signal.SIGPIPE


def _reader_has_gone() -> bool:
    """Whether it is stdout that nobody reads, and not some connection that has broken."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _run(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(options.run(options))
    except StudyError as error:
        for line in error.lines:
            print(line, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        if options.command in ("launch", "tune", "demo"):
            words = ["python", "run_study.py", *(arguments or sys.argv[1:])]
            print(f"to resume: {shlex.join(words)}", file=sys.stderr)
        return INTERRUPTED


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(
        prog="run_study.py",
        description=OVERVIEW,
        epilog=WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> Parser:
        added: Parser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    demo = command("demo", run_demo, "embedded study: digits, local Ray, report; no network")
    demo.add_argument("--out", default="results", metavar="DIR", help="default: ./results")

    plan = command("plan", run_plan, "what would run, how long, how many seeds suffice")
    plan.add_argument("study", metavar="STUDY.yaml")
    plan.add_argument("--json", action="store_true", help="for programs")
    plan.add_argument("--trials", type=_positive, default=30, metavar="N",
                      help="of a tuning (default: 30)")  # fmt: skip
    plan.add_argument("--difference", type=_above_zero, metavar="D",
                      help="how many seeds it takes to find a difference of D")  # fmt: skip
    plan.add_argument("--spread", type=_above_zero, metavar="S",
                      help="with --difference: its deviation over paired seeds")  # fmt: skip
    launch = command("launch", run_launch, "train what is not complete; again: resume")
    launch.add_argument("study", metavar="STUDY.yaml")
    tune = command("tune", run_tune, "let Optuna choose settings, and confirm them on fresh seeds")
    tune.add_argument("study", metavar="STUDY.yaml")
    tune.add_argument("--trials", type=_positive, required=True, metavar="N",
                      help="finished trials in all, those of earlier calls included")  # fmt: skip
    tune.add_argument("--confirm", type=_fresh, default=CONFIRM, metavar="N",
                      help=f"fresh seeds for the best (default: {CONFIRM}; 0: none)")  # fmt: skip
    for one in (plan, launch, tune):
        one.add_argument("--address", metavar="auto|HOST:PORT",
                         help="a running Ray cluster; default: this machine")  # fmt: skip
    for one in (launch, tune):
        one.add_argument("--wait", type=float, nargs="?", const=WAIT_MINUTES, default=0.0,
                         metavar="MINUTES",
                         help="with --address: wait for nodes that can take a pack, as an "
                              f"autoscaling cluster needs (default: {WAIT_MINUTES:g})")  # fmt: skip
    for one in (plan, launch, tune):
        one.add_argument("--storage", default="results", metavar="URI",
                         help="folder or URI of all studies (default: ./results)")  # fmt: skip
        one.add_argument("--set", dest="overrides", action="append", default=[],
                         metavar="a.b=value", help="change a key of the study file")  # fmt: skip
        one.formatter_class = argparse.RawDescriptionHelpFormatter
        one.lists_settings = True

    status = command("status", run_status, "done, running, failed, diverged, time left")
    status.add_argument("folder", metavar="DIR",
                        help="STORAGE/NAME, local or URI; STORAGE: all its studies")  # fmt: skip
    status.add_argument("--json", action="store_true", help="for programs")
    analyze = command("analyze", run_analyze, "tables, figures and report.html")
    analyze.add_argument("folder", metavar="DIR", help="STORAGE/NAME, local or URI")
    analyze.add_argument("--out", metavar="DIR", help="default: DIR/report")
    analyze.add_argument("--style", choices=("paper", "slides"), default="paper",
                         help="of the figures; slides: larger texts and lines")  # fmt: skip
    analyze.add_argument("--no-trajectories", action="store_true",
                         help="first and last epochs only, much faster")  # fmt: skip
    analyze.add_argument("--details", type=int, metavar="N",
                         help="settings drawn one by one (default: few or all)")  # fmt: skip
    return top


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("above 0")
    return value


def _fresh(text: str) -> int:
    value = int(text)
    if value != 0 and not 2 <= value <= 10_000:
        raise argparse.ArgumentTypeError("0, or 2 to 10000")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def run_plan(options: argparse.Namespace) -> int:
    """`plan`."""
    from study.file import load_study
    from study.planning.plan import Asked, make_plan, plan_rows

    asked = Asked(options.address, True, options.trials, options.difference, options.spread)
    plan = make_plan(load_study(options.study, options.overrides), options.storage, asked)
    if options.json:
        print(json.dumps(plan, indent=1))
        return DONE
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for what, value in plan_rows(plan):
        table.add_row(what, value)
    _console().print(table)
    return DONE


def run_launch(options: argparse.Namespace) -> int:
    """`launch`."""
    from study.file import load_study
    from study.launch import launch

    file = load_study(options.study, options.overrides)
    return _finish(launch(file, options.storage, _how(options)))


def _how(options: argparse.Namespace) -> Any:
    from study.opening import Launching

    return Launching(options.address, options.wait, _notify)


def run_demo(options: argparse.Namespace) -> int:
    """`demo`: launch the embedded study, write its report, say whether it shows anything."""
    import study
    from analysis import write_report
    from analysis.statistics.trials import ARCHITECTURE_MOVED
    from study.file import load_study
    from study.launch import launch, summary
    from study.opening import Launching

    file = load_study(Path(study.__file__).parent / "examples" / "demo.yaml")
    outcome = launch(file, options.out, Launching(notify=_notify))
    result = _finish(outcome, hint=False)
    for row in summary(outcome):
        moved = row["architecture_displacement"]
        if moved is not None and moved < ARCHITECTURE_MOVED:
            _notify(f"{row['setting']}: hardly moved ({moved:.2f}); nothing follows from it")
    report = write_report(str(outcome.folder), None)
    print(f"report: {report}")
    return result


def _finish(outcome: Any, hint: bool = True) -> int:
    """What a launch came to: a table per setting, and what failed."""
    from study.launch import summary

    if not outcome.runs_new and not outcome.unfinished:
        print(f"nothing to do: all {outcome.runs_total} runs of {outcome.folder} are complete")
    table = Table(box=None, pad_edge=False)
    for name in ("setting", "n", "derived accuracy", "displacement", "genotypes", "diverged"):
        table.add_column(name, justify="left" if name == "setting" else "right", overflow="fold")
    for row in summary(outcome):
        table.add_row(
            row["setting"],
            str(row["runs"]),
            _number(row["derived_accuracy"]),
            _number(row["architecture_displacement"]),
            str(row["genotypes"]),
            str(row["diverged"]),
        )
    if table.row_count:
        _console().print(table)
    for pack, line in outcome.failed.items():
        print(f"failed: pack {pack}: {line} (logs/{pack}.error.txt)", file=sys.stderr)
    if outcome.unfinished:
        total = outcome.runs_total
        print(f"{len(outcome.unfinished)} of {total} runs are not complete", file=sys.stderr)
    if hint:
        print(f"python run_study.py analyze {shlex.quote(str(outcome.folder))}")
    return FAILED if outcome.unfinished else DONE


def run_tune(options: argparse.Namespace) -> int:
    """`tune`."""
    from study.file import load_study

    file = load_study(options.study, options.overrides)
    from study.tuning.run import BEST, run_tuning

    outcome = run_tuning(file, options.storage, options.trials, _how(options), options.confirm)
    if not outcome.trials_new and not outcome.runs_new and not outcome.missing:
        print(f"nothing to do: {outcome.trials} trials of {outcome.folder} are finished")
    for pack, line in outcome.failed.items():
        print(f"failed: pack {pack}: {line} (logs/{pack}.error.txt)", file=sys.stderr)
    if outcome.missing:
        print(f"{outcome.missing} trials or runs of the confirmation are not finished",
              file=sys.stderr)  # fmt: skip
    print(
        f"{outcome.trials} trials, {outcome.raced_out} of them raced out, "
        f"{outcome.infeasible} infeasible"
    )
    name = outcome.objectives[0]
    if outcome.best is not None:
        print(f"largest {name}: trial {outcome.best[0]}, {outcome.best[1]:.4f}")
    if outcome.incumbent is not None and outcome.merit is not None:
        print(f"incumbent: trial {outcome.incumbent}, shrunken mean {outcome.merit:.4f}")
    print(outcome.answer or "not confirmed on fresh seeds (--confirm N)")
    if outcome.found is not None:
        what, values = outcome.found
        told = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
        print(f"{BEST} has {what}" + (f": {told}" if told else ""))
        print(f"python run_study.py launch {shlex.quote(outcome.folder.path(BEST))}")
    print(f"python run_study.py analyze {shlex.quote(str(outcome.folder))}")
    return FAILED if outcome.missing else DONE


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run_status(options: argparse.Namespace) -> int:
    """`status` of a study, or of all studies of a storage."""
    from study.status import is_study, status_lines, storage_lines, storage_status, study_status

    if is_study(options.folder):
        status = study_status(options.folder)
        lines = status_lines(status)
    else:
        studies = storage_status(options.folder)
        status, lines = {"studies": studies}, storage_lines(studies)
    print(json.dumps(status, indent=1) if options.json else "\n".join(lines))
    return DONE


def run_analyze(options: argparse.Namespace) -> int:
    """`analyze`."""
    from analysis import ResultsError, write_report

    try:
        page = write_report(
            options.folder,
            options.out,
            options.style,
            not options.no_trajectories,
            options.details,
        )
        print(f"report: {page}")
    except ResultsError as error:
        raise StudyError(str(error)) from None
    return DONE


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _notify(line: str) -> None:
    print(line, file=sys.stderr)


def _console() -> Console:
    """stdout; where that is no terminal, wide enough that tables keep their lines."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


if __name__ == "__main__":
    sys.exit(main())
