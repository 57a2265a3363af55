"""The templates of docs/cluster: the Slurm script with stubs for Slurm, Ray and the driver."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from run_study import parser
from tests.study.cli import ROOT

TEMPLATES = ROOT / "docs" / "cluster"
SCRIPT = TEMPLATES / "study.sbatch"
JOB = "123456"
PATIENCE = 120.0
"""seconds, for what takes less than one on an idle machine"""

STUBS = {
    "slurm/scontrol": """
case $1 in
show) [ "$2 $3" = "hostnames node[7-8]" ] && printf 'node7\\nnode8\\n' ;;
*) echo "$*" >>"$LOG/scontrol"; [ ! -e "$LOG/no-requeue" ] ;;
esac
""",
    # The script's seconds are short ones.
    "slurm/sleep": """
[ "$1" != 1 ] || set -- 0.02
exec /bin/sleep "$@"
""",
    # One task a node; a signal to srun is one to every task.
    "slurm/srun": """
printf '%s\\n' "$@" >"$LOG/srun"
while [ "$1" != ray ]; do shift; done
for node in 0 1; do SLURM_PROCID=$node "$@" & done
trap 'echo TERM >>"$LOG/heard-srun"; touch "$LOG/over"' TERM
while [ "$(jobs -r)" ]; do wait; done
exit 9 # of whichever task
""",
    "venv/bin/ray": """
trap 'echo TERM >>"$LOG/heard-ray"' TERM
until_there() { until [ -e "$LOG/$1" ]; do sleep 0.05; done; }
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" \\
    >"$LOG/node$SLURM_PROCID"
[ "$ENDS" != never-began ] || { until_there over; exit 1; }
[ "$SLURM_PROCID" = 0 ] || { until_there "${LINGERS:-over}"; exit 0; }
(trap 'echo TERM >>"$LOG/heard-raylet"' TERM; until_there over) &
while [ "$1" != -- ]; do shift; done
shift
"$@"
status=$?
touch "$LOG/over"
wait
exit $status
""",
    "venv/bin/python": """
[ "$1" != -c ] || exec "$PYTHON" "$@"
asked=no
trap 'echo TERM >>"$LOG/heard-driver"; asked=yes' TERM
printf '%s\\n' "$@" >"$LOG/driver"
[ "$ENDS" = asked ] || exit "$ENDS"
until [ $asked = yes ]; do sleep 0.05; done
sleep 0.5
exit 130
""",
}


def minds(process: int, number: int) -> bool:
    """Whether a process catches or ignores a signal that would end it."""
    told = Path(f"/proc/{process}/status").read_text()
    masks = re.findall(r"(?m)^Sig(?:Cgt|Ign):\s*(\w+)", told)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


class Job:
    """The script in a job of two nodes, as its user would edit it, and what the stubs saw."""

    def __init__(self, folder: Path) -> None:
        self.log, self.temporary = folder / "log", folder / "tmp"
        self.log.mkdir()
        self.temporary.mkdir()
        for name, text in STUBS.items():
            stub = folder / name
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text(f"#!/bin/bash\n{text}")
            stub.chmod(0o755)
        text = SCRIPT.read_text()
        edits = {"STUDY": "my study.yaml", "STORAGE": "/shared/out", "VENV": str(folder / "venv")}
        for name, value in edits.items():
            text, n = re.subn(rf"(?m)^{name}=\S+", f"{name}={shlex.quote(value)}", text)
            assert n == 1, name
        self.script = folder / "study.sbatch"
        self.script.write_text(text)
        self.environment = {
            "PATH": f"{folder / 'slurm'}:{os.environ['PATH']}",
            "LOG": str(self.log),
            "TMPDIR": str(self.temporary),
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "6",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ends: str, **more: str) -> None:
        """`ends`: the driver's exit status, `asked` (130 after a signal) or `never-began`."""
        with (self.log / "output").open("w") as output:  # a pipe would wait for the other node
            self.process = subprocess.Popen(
                ["bash", str(self.script)], stdout=output, stderr=subprocess.STDOUT,
                env=self.environment | {"ENDS": ends} | more, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: int, after: str) -> None:
        """To the shell alone, once a stub has written `after` and the shell has its trap."""
        assert self.process is not None
        end = time.monotonic() + PATIENCE
        while not ((self.log / after).exists() and minds(self.process.pid, number)):
            assert time.monotonic() < end, f"no {after}"
            time.sleep(0.02)
        os.kill(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        assert self.process is not None
        return self.process.wait(timeout=PATIENCE), (self.log / "output").read_text()

    def lines(self, name: str) -> list[str]:
        path = self.log / name
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        """End what is left, by the group that it was started in."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=PATIENCE)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    one = Job(tmp_path)
    yield one
    one.close()


def option(words: list[str], name: str) -> str:
    """The value of `--name=value` or `--name value`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    raise AssertionError(f"no {name} in {words}")


def test_a_complete_study_is_left_alone(job):
    job.start("0", SLURM_GPUS_ON_NODE="4")
    assert job.end()[0] == 0
    assert job.lines("scontrol") == []
    assert list(job.temporary.iterdir()) == []  # nothing stays on the node

    words = job.lines("srun")
    srun, ray = words[: words.index("ray")], words[words.index("ray") : words.index("--")]
    assert [option(srun, f"--{name}") for name in ("nodes", "ntasks-per-node")] == ["2", "1"]
    assert option(srun, "--cpus-per-task") == "6"
    assert ray[1] == "symmetric-run"
    assert option(ray, "--address") == f"node7:{20000 + int(JOB) % 10000}"
    assert option(ray, "--min-nodes") == "2"
    assert [option(ray, f"--num-{name}") for name in ("cpus", "gpus")] == ["6", "4"]

    script, *driver = job.lines("driver")
    options = parser().parse_args(driver)
    assert script == "run_study.py"
    assert (options.command, options.study) == ("launch", "my study.yaml")
    assert (options.storage, options.address) == ("/shared/out", "auto")


def test_all_nodes_of_a_job_share_a_token_and_wait(job):
    job.start("0")
    job.end()
    head, worker = job.lines("node0"), job.lines("node1")
    assert head == worker
    mode, token, wait = head[0].split()
    assert mode == "token"
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert int(wait) > 30
    assert token not in " ".join(job.lines("srun"))  # arguments are read by every user
    assert option(job.lines("srun"), "--num-gpus") == "0"


def test_each_job_has_a_token_of_its_own(job):
    seen = set()
    for _ in range(2):
        job.start("0")
        job.end()
        seen |= set(job.lines("node0"))
        job.close()
        (job.log / "over").unlink(missing_ok=True)
    assert len(seen) == 2


def test_at_the_limit_the_driver_is_asked_and_the_job_put_back(job):
    job.start("asked")
    job.signal(signal.SIGUSR1, after="driver")
    job.signal(signal.SIGUSR1, after="heard-driver")  # at a preemption Slurm may send another
    status, output = job.end()
    assert status == 130, output
    assert job.lines("heard-driver") == ["TERM"]
    for other in ("srun", "ray", "raylet"):
        assert job.lines(f"heard-{other}") == [], other
    assert job.lines("scontrol") == [f"requeue {JOB}"]


def test_other_nodes_do_not_hold_a_job_whose_driver_has_ended(job):
    job.start("130", LINGERS="for-ever")
    assert job.end()[0] == 130
    assert job.lines("scontrol") == [f"requeue {JOB}"]


def test_a_job_that_comes_back_has_another_port(job):
    job.start("0", SLURM_RESTART_COUNT="3")
    job.end()
    assert option(job.lines("srun"), "--address") == f"node7:{20000 + int(JOB) % 10000 + 3}"


def test_an_interrupted_driver_is_put_back_whoever_interrupted_it(job):
    job.start("130")
    assert job.end()[0] == 130
    assert job.lines("scontrol") == [f"requeue {JOB}"]


@pytest.mark.parametrize(
    ("ends", "line"),
    [
        ("1", "some runs failed or the cluster was lost"),
        ("2", "the study was refused"),
        ("137", "the driver was killed"),
    ],
)
def test_what_would_fail_again_is_not_put_back(job, ends, line):
    job.start(ends)
    status, output = job.end()
    assert status == int(ends)
    assert f"not put back: {line}" in output
    assert job.lines("scontrol") == []


def test_a_cluster_that_does_not_start_is_not_put_back(job):
    job.start("never-began")
    (job.log / "over").touch()
    status, output = job.end()
    assert status == 1
    assert "Ray did not start" in output
    assert job.lines("scontrol") == []


def test_a_limit_that_comes_before_the_driver_ends_the_step(job):
    job.start("never-began")
    job.signal(signal.SIGUSR1, after="node0")
    assert job.end()[0] == 130
    assert job.lines("heard-srun") == ["TERM"]
    assert job.lines("scontrol") == [f"requeue {JOB}"]


def test_a_cancelled_job_does_not_come_back(job):
    job.start("asked")
    job.signal(signal.SIGTERM, after="driver")
    assert job.end()[0] in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert job.lines("scontrol") == []


def test_a_requeue_that_slurm_refuses_is_told(job):
    (job.log / "no-requeue").touch()
    job.start("130")
    status, output = job.end()
    assert status == 130
    assert "sbatch it again" in output


def test_the_script_is_right_and_asks_slurm_for_what_it_needs():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    text = SCRIPT.read_text()
    asked = re.findall(r"(?m)^#SBATCH (.*)$", text)
    for line in ("--signal=B:USR1@300", "--requeue", "--exclusive", "--open-mode=append"):
        assert line in asked
    first = text.index("\nSTUDY=")  # sbatch reads no directive after the first command
    assert "\n#SBATCH" not in text[first:]
    assert "#" not in "".join(asked)


def test_ray_knows_what_the_script_gives_it(job):
    from ray.scripts.scripts import start

    job.start("0")
    job.end()
    words = job.lines("srun")
    given = words[words.index("ray") + 2 : words.index("--")]
    names = {word.partition("=")[0] for word in given if word.startswith("--")}
    own, every_node = {"--address", "--min-nodes"}, {"--num-cpus", "--num-gpus"}
    assert names == own | every_node  # many others, --include-dashboard too, are the head's alone
    assert every_node <= {name for parameter in start.params for name in parameter.opts}
    source = find_spec("ray.scripts.symmetric_run").origin
    assert "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" in Path(source).read_text()


def test_the_kubernetes_job_is_yaml_of_one_image_and_a_command_that_exists():
    job = yaml.safe_load((TEMPLATES / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]

    script, *words = shlex.split(job["spec"]["entrypoint"])[1:]
    options = parser().parse_args(words)
    assert Path(script).name == "run_study.py"
    assert (options.command, options.address, options.wait) == ("launch", "auto", 30)
    (mount,) = head["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(Path(options.study).parent) == mount["mountPath"]

    assert cluster["enableInTreeAutoscaling"] is True
    assert group["minReplicas"] == 0 < group["maxReplicas"]
    assert head["rayStartParams"] == {"num-cpus": "0"}  # strings, as everything of rayStartParams
    pods = [one["template"]["spec"]["containers"] for one in (head, group)]
    assert len({container["image"] for (container,) in pods}) == 1
    assert len({container["envFrom"][0]["secretRef"]["name"] for (container,) in pods}) == 1
    assert group["template"]["spec"]["tolerations"]
    requirements = (ROOT / "requirements.txt").read_text()
    assert f"ray[tune]=={cluster['rayVersion']}" in requirements
