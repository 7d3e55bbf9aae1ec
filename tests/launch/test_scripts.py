"""The shell scripts of launch/: sound by shellcheck, and run, with stand-ins for what they start.

The Slurm script has tests of its own, under a real Slurm.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import tiny
from places import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])

# Stands in for training: says how it was started, then does as ROLE says, or as ROLE_<process> does.
PYTHON = """#!/usr/bin/env bash
[ "$1" != -c ] || exec %s "$@"
for flag in "$@"; do [[ $flag == --process=* ]] && number=${flag#*=}; done
role=ROLE_$number
role=${!role:-${ROLE:-}}
case $role in
  wait) trap 'echo saved; exit 75' TERM ;;
  deaf) trap '' TERM ;;
esac
echo "$JAX_PLATFORMS ${JAX_NUM_CPU_DEVICES:-} ${CUDA_VISIBLE_DEVICES:-}: $*"
case $role in
  wait | deaf) for i in $(seq 600); do sleep 0.1; done ;;
  *) exit ${role:-0} ;;
esac
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def environment(first: Path, **variables: str) -> dict[str, str]:
    """This one's, with another folder first on PATH."""
    return os.environ | {"PATH": f"{first}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | variables


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=False
    )


def as_bash_reads(line: str) -> list[str]:
    """The words of a command that bash has quoted in its own way."""
    command = ["bash", "-c", """eval "set -- $1"; printf '%s\\0' "$@" """, "bash", line]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def assert_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert done.stderr.startswith(f"error: {message}"), done.stderr


# ------------------------------------------------------------------ shellcheck


@pytest.fixture(scope="module")
def shellcheck() -> str:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("shellcheck is not installed")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path, shellcheck: str) -> None:
    done = run(shellcheck, script)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck_finds_nothing_in_skypilot(part: str, shellcheck: str, tmp_path: Path) -> None:
    script = tmp_path / part
    script.write_text(yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())[part])
    done = run(shellcheck, "--shell=bash", script)
    assert done.returncode == 0, done.stdout


# --------------------------------------------------------- local.sh, local_cluster.sh


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Beside it, in bin/, a `python` that only says how it was started."""
    program(tmp_path / "bin" / "python", PYTHON % sys.executable)
    file = tmp_path / "tiny.py"
    file.touch()
    return file


def test_processes_share_the_devices(config: Path) -> None:
    stubs = config.parent / "bin"
    cpu = run(LAUNCH / "local_cluster.sh", 2, config, "--a=b", **environment(stubs, JAX_PLATFORMS="cpu", DEVICES="4"))
    lines = sorted(cpu.stdout.splitlines())
    assert cpu.returncode == 0
    assert [line.partition(" --")[0] for line in lines] == [f"[{i}] cpu 4 : -m survey_jax.train" for i in (0, 1)]
    for i, line in enumerate(lines):
        assert f"--config={config} --config.mesh.devices=8 --coordinator=127.0.0.1:" in line
        assert line.endswith(f"--processes=2 --process={i} --a=b")
    assert len({line.partition("--coordinator=")[2].split()[0] for line in lines}) == 1

    program(stubs / "nvidia-smi", "#!/bin/sh\nprintf 'GPU %s\\n' 0 1 2 3\n")
    gpu = run(LAUNCH / "local_cluster.sh", 2, "eval", "--workdir=w", **environment(stubs, JAX_PLATFORMS=""))
    assert [line[:40] for line in sorted(gpu.stdout.splitlines())] == [
        f"[{i}]   {share}: -m survey_jax.eval --coordinat"[:40] for i, share in enumerate(("0,1", "2,3"))
    ]
    three = run(LAUNCH / "local_cluster.sh", 3, config, **environment(stubs, JAX_PLATFORMS=""))
    assert_refused(three, "3 processes cannot share 4 GPUs evenly")


@pytest.mark.parametrize("script", [["local_cluster.sh", "2"], ["local.sh"]], ids=lambda script: script[0])
def test_a_dry_run_prints_what_the_other_one_does(config: Path, script: list[str]) -> None:
    """The stand-in for Python tells what it is given."""
    variables = environment(config.parent / "bin", JAX_PLATFORMS="cpu", DEVICES="4")
    program, flags = LAUNCH / script[0], [*script[1:], config, "--config.data.tables=('a b',)"]
    printed, real = run(program, "--dry_run", *flags, **variables), run(program, *flags, **variables)
    assert (printed.returncode, printed.stderr) == (0, "")
    said = [shlex.split(line) for line in printed.stdout.splitlines()]
    given = [" ".join(words[words.index("python") + 1 :]) for words in said]
    port = re.compile(r"127\.0\.0\.1:\d+")
    told = sorted(port.sub("", line.partition(": ")[2]) for line in real.stdout.splitlines())
    assert sorted(port.sub("", line) for line in given) == told
    assert len(told) == 2
    if script[1:]:
        assert all(words[1:3] == ["JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=4"] for words in said)


def test_the_first_to_fail_gives_the_exit_code(config: Path) -> None:
    """The others have a while to end by themselves."""
    begin = time.monotonic()
    roles = {"JAX_PLATFORMS": "cpu", "ROLE": "deaf", "ROLE_1": "3", "PATIENCE": "1"}
    done = run(LAUNCH / "local_cluster.sh", 3, config, **environment(config.parent / "bin", **roles))
    assert done.returncode == 3, done
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("group", [False, True])
def test_sigterm_reaches_all_processes(config: Path, group: bool) -> None:
    """Sent to the script alone, as by `kill`, or to its process group, as by a scheduler or `timeout`."""
    roles = {"JAX_PLATFORMS": "cpu", "ROLE": "wait"}
    command = [str(LAUNCH / "local_cluster.sh"), "3", str(config)]
    variables = environment(config.parent / "bin", **roles)
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    for _ in range(3):  # all have started
        process.stdout.readline()
    if group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75
    saved = [line for line in output.splitlines() if b"Terminated" not in line]  # bash tells of the stand-in's sleep
    assert sorted(saved) == [b"[0] saved", b"[1] saved", b"[2] saved"]


def test_local_scripts_refuse_in_one_line(config: Path, tmp_path: Path) -> None:
    bare = program(tmp_path / "bare" / "python", "#!/bin/sh\nexit 1\n")
    stubs = environment(config.parent / "bin", JAX_PLATFORMS="cpu")
    cluster = LAUNCH / "local_cluster.sh"
    assert_refused(run(cluster, 2, **stubs), "usage: launch/local_cluster.sh [--dry_run] N CONFIG|eval [FLAGS...]")
    assert_refused(run(cluster, 0, config, **stubs), "0: the number of processes must be 1 or more")
    assert_refused(run(cluster, 2, "gone.py", **stubs), "gone.py: no such config")
    assert_refused(run(cluster, 2, config, **environment(bare.parent)), f"{bare} has no survey_jax; activate")
    assert_refused(run(LAUNCH / "local.sh", **stubs), "usage: launch/local.sh [--dry_run] CONFIG [FLAGS...]")
    assert_refused(run(LAUNCH / "local.sh", "gone.py", **stubs), "gone.py: no such config")


def test_two_real_processes_train_stop_and_go_on(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "model")
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows())
    config = tiny.write_config(tmp_path, model, table, optim__steps="8", run__eval_every="8", run__log_every="1")
    command = [str(LAUNCH / "local_cluster.sh"), "2", str(config), f"--workdir={tmp_path / 'run'}"]
    variables = environment(Path(sys.executable).parent, JAX_PLATFORMS="cpu", HF_TOKEN=TOKEN)
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    before = []
    for line in process.stdout:
        before.append(line)
        if line.startswith("[0] step 2/8"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 75, "".join(before)
    assert "[0] stopped as asked, after step " in "".join(before)
    after = run(*command, **variables)
    assert after.returncode == 0, after.stdout
    assert "[0] resumed at step " in after.stdout
    assert "[0] done: " in after.stdout
    assert not [line for line in after.stdout.splitlines() if line.startswith("[1] step")]
    assert TOKEN not in "".join(before) + after.stdout + after.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


# ---------------------------------------------------------------- slurm.sbatch

# Stands in for Slurm's: tells what it is given; a training ends with 75.
SRUN = """#!/usr/bin/env bash
printf '%q ' srun "$@"; echo
[[ $* != *survey_jax.train* ]] || exit 75
"""
JOB = {"SLURM_JOB_ID": "9", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "4"}
ARRAY = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def slurm(config: Path) -> dict[str, str]:
    """The environment of a job on two nodes without GPUs."""
    program(config.parent / "bin" / "srun", SRUN)
    program(config.parent / "bin" / "scontrol", "#!/bin/sh\necho scontrol $*\n")
    return environment(config.parent / "bin", HOME=str(config.parent / "home"), **JOB)


def test_slurm_jobs_of_seeds_train_in_folders_of_their_own(config: Path, slurm: dict[str, str]) -> None:
    """Those that `eval --workdir=DIR` compares. By the number of the whole array all of them would be queued again."""
    workdir = config.parent / "runs"
    done = run(LAUNCH / "slurm.sbatch", config, f"--workdir={workdir}", "--a=b", **slurm, **ARRAY)
    assert done.returncode == 75, done.stderr
    _, training, *last = done.stdout.splitlines()
    flags = shlex.split(training.partition("survey_jax.train ")[2])
    expected = [f"--config={config}", "--config.mesh.devices=2", "--config.run.seed=3"]
    assert flags == [*expected, f"--workdir={workdir}/seed_3", "--a=b"]
    assert last == ["job 9_3: saved, queued again", "scontrol requeue 9_3"]
    assert list(workdir.iterdir()) == [workdir / "seed_3"]
    evaluated = run(LAUNCH / "slurm.sbatch", "eval", f"--workdir={workdir}", **slurm, **ARRAY)
    assert evaluated.stdout.splitlines()[1].endswith(f"-m survey_jax.eval --workdir={workdir}/seed_3 ")
    assert_refused(
        run(LAUNCH / "slurm.sbatch", config, "--config.run.seed=1", **slurm, **ARRAY),
        "--array tells the seeds; leave out --config.run.seed=1",
    )


def test_slurm_steps_in_a_container(config: Path, slurm: dict[str, str]) -> None:
    """The check before the start, too; the project, the run and the hub's cache are where they are outside."""
    own = {"CONTAINER": "ghcr.io#me/survey_jax:cuda", "CONTAINER_MOUNTS": "/data:/data:ro"}
    workdir, cache = config.parent / "run", config.parent / "home/.cache/huggingface"
    slurm.pop("HF_HOME", None)
    done = run(LAUNCH / "slurm.sbatch", config, f"--workdir={workdir}", **slurm, **own)
    check, training = [as_bash_reads(line) for line in done.stdout.splitlines()[:2]]
    mounts = [f"{ROOT}:{ROOT}", f"{cache}:{cache}", f"{workdir}:{workdir}", "/data:/data:ro"]
    container = ["--container-image=ghcr.io#me/survey_jax:cuda", f"--container-workdir={ROOT}"]
    container.append(f"--container-mounts={','.join(mounts)}")
    assert check[:4] == training[:4] == ["srun", *container]
    assert cache.is_dir()
    in_bucket = run(LAUNCH / "slurm.sbatch", config, "--workdir=gs://b/r", **slurm, **own).stdout
    assert "gs://b/r:" not in in_bucket
    assert "--container" not in run(LAUNCH / "slurm.sbatch", config, f"--workdir={workdir}", **slurm).stdout


@pytest.mark.parametrize("own", [{}, ARRAY, {"CONTAINER": "an image"}], ids=["plain", "array", "container"])
def test_a_dry_run_prints_what_a_job_starts(config: Path, slurm: dict[str, str], own: dict[str, str]) -> None:
    workdir = config.parent / "run"
    command = [config, f"--workdir={workdir}", "--config.data.tables=('a b',)"]
    printed = run(LAUNCH / "slurm.sbatch", "--dry_run", *command, **slurm, **own)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert not workdir.exists()
    first, last = printed.stdout.splitlines()
    assert first == run(LAUNCH / "slurm.sbatch", *command, **slurm, **own).stdout.splitlines()[1]
    assert last.startswith("on 2 nodes, 1 processes each, 2 devices in all; ")

    outside = {name: value for name, value in slurm.items() if name not in JOB}
    printed = subprocess.run(
        [LAUNCH / "slurm.sbatch", "--dry_run", *command], env=outside | own, capture_output=True, text=True, check=True
    )
    assert "--config.mesh.devices=8 " in printed.stdout
    assert "on 1 nodes, 8 processes each, 8 devices in all; " in printed.stdout


# ------------------------------------------------------------------ tpu_pod.sh

# Stands in for gcloud: writes down each call, and answers from the files beside it. A run that is answered with an exit
# code other than 0 finds its slice suspended.
GCLOUD = """#!/usr/bin/env bash
here=$(dirname "$0")
case "$*" in
  "config get compute/zone") cat "$here/zone"; exit ;;
esac
printf '%q ' gcloud "$@" >>"$here/calls"; echo >>"$here/calls"
case "$*" in
  *tpu-vm\\ scp*hugging_face_token*) cp -p "$5" "$here/hugging_face_token" ;;
  *queued-resources\\ create*) echo ACTIVE >"$here/state" ;;
  *queued-resources\\ describe*state.state*) grep . "$here/state" ;;
  *queued-resources\\ describe*acceleratorType*) echo v5litepod-16 ;;
  *ssh*survey_jax.train*)
    code=$(head -n1 "$here/codes"); sed -i 1d "$here/codes"
    [ "$code" = 0 ] || echo "$(cat "$here/after")" >"$here/state"
    exit "$code" ;;
esac
"""


class Gcloud:
    """Runs launch/tpu_pod.sh with the stand-in. `calls` are what it was called with, word by word."""

    def __init__(self, home: Path):
        self._home = home
        program(home / "gcloud", GCLOUD)
        self.answer(zone="us-west4-a", state="ACTIVE", codes="0", after="SUSPENDED")
        (home / "train.py").touch()

    def answer(self, **files: str) -> None:
        for name, text in files.items():
            (self._home / name).write_text(f"{text}\n")

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (self._home / "calls").write_text("")
        variables = environment(self._home, POLL="0.1", TMPDIR=str(self._home)) | variables
        return run(LAUNCH / "tpu_pod.sh", *arguments, **variables)

    def calls(self) -> list[list[str]]:
        """The calls, less `gcloud compute tpus`."""
        return self.words((self._home / "calls").read_text())

    def words(self, commands: str) -> list[list[str]]:
        """Those of commands as bash prints them, one a line, less `gcloud compute tpus`."""
        words = [as_bash_reads(line) for line in commands.splitlines()]
        assert all(call[:3] == ["gcloud", "compute", "tpus"] for call in words)
        return [call[3:] for call in words]


@pytest.fixture
def gcloud(tmp_path: Path) -> Gcloud:
    (tmp_path / "gcloud").mkdir()
    return Gcloud(tmp_path / "gcloud")


def test_a_slice_is_asked_for_and_deleted(gcloud: Gcloud) -> None:
    gcloud.answer(state="PROVISIONING")
    assert gcloud("create", "mine", "v5litepod-16").returncode == 0
    create, describe = gcloud.calls()
    assert create == [
        *("queued-resources", "create", "mine", "--node-id=mine", "--accelerator-type=v5litepod-16"),
        *("--runtime-version=v2-alpha-tpuv5-lite", "--spot"),
    ]
    assert describe == ["queued-resources", "describe", "mine", "--format=value(state.state)"]
    assert gcloud("delete", "mine").returncode == 0
    assert gcloud.calls() == [["queued-resources", "delete", "mine", "--force", "--quiet"]]


RUN = ["ssh", "scp", "ssh", "ssh"]  # stop what was left behind, copy, install, train


def test_all_hosts_get_the_project_and_train(gcloud: Gcloud, tmp_path: Path) -> None:
    flags = ("--workdir=gs://bucket/run", "--config.data.tables=('a b',)")
    assert gcloud("run", "mine", "configs/demo.py", *flags).returncode == 0
    calls = [call for call in gcloud.calls() if call[0] == "tpu-vm"]
    assert [call[1] for call in calls] == RUN
    assert all("--worker=all" in call for call in calls)
    (command,) = (word.removeprefix("--command=") for word in calls[-1] if word.startswith("--command="))
    # What a host would make of it, with a program in place of Python's that tells its arguments and fails.
    python = tmp_path / "host/survey_jax/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nexit 75\n')
    python.chmod(0o755)
    host = subprocess.run(["sh", "-c", command], cwd=tmp_path / "host", capture_output=True, text=True, check=False)
    words = ["-m", "survey_jax.train", "--config=configs/demo.py", "--config.mesh.devices=16", *flags]
    assert (host.returncode, host.stdout.splitlines()) == (75, words)
    packed = run("tar", "-tzf", tmp_path / "gcloud" / "survey_jax.tar.gz").stdout.split()
    assert {"setup.py", "constraints/python3.11.txt", "survey_jax/train.py", "configs/demo.py"} <= set(packed)
    assert not [name for name in packed if name.startswith((".venv", ".git/"))]


@pytest.mark.parametrize(
    "arguments",
    [("create", "m", "v6e-8"), ("check", "m"), ("run", "m", "configs/demo.py", "--workdir=gs://b/r"), ("delete", "m")],
    ids=lambda arguments: arguments[0],
)
def test_a_dry_run_prints_the_calls_that_the_other_one_makes(gcloud: Gcloud, arguments: tuple[str, ...]) -> None:
    printed = gcloud("--dry_run", *arguments)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert all(call[1] == "describe" for call in gcloud.calls())
    assert gcloud(*arguments).returncode == 0
    assert gcloud.words(printed.stdout) == [call for call in gcloud.calls() if call[1] != "describe"]


def test_a_dry_run_waits_for_nothing(gcloud: Gcloud) -> None:
    """Not even for a slice in place of one that was taken away."""
    gcloud.answer(state="SUSPENDED")
    printed = gcloud("--dry_run", "run", "m", "configs/demo.py", "--workdir=gs://b/r").stdout
    first, _, rest = printed.partition("\n")
    assert first == "m: SUSPENDED"
    assert [call[1] for call in gcloud.words(rest)] == ["delete", "create", *RUN]
    assert gcloud("--dry_run", "stop", "m").stdout.startswith("gcloud compute tpus tpu-vm ssh m --worker=all --command")


def test_a_slice_that_was_taken_away_is_replaced(gcloud: Gcloud) -> None:
    gcloud.answer(codes="75\n255\n0")
    done = gcloud("run", "mine", "configs/demo.py", "--workdir=gs://bucket/run")
    assert done.returncode == 0, done.stderr
    verbs = [call[1] for call in gcloud.calls() if call[1] != "describe"]
    assert verbs == [*RUN, *(["delete", "create", *RUN] * 2)]


@pytest.mark.parametrize(("code", "after"), [("75", "ACTIVE"), ("2", "SUSPENDED"), ("1", "ACTIVE")])
def test_a_run_that_ended_by_itself_is_not_repeated(gcloud: Gcloud, code: str, after: str) -> None:
    """It was asked to stop, or failed."""
    gcloud.answer(codes=code, after=after)
    assert gcloud("run", "mine", "configs/demo.py", "--workdir=gs://bucket/run").returncode == int(code)
    assert [call[1] for call in gcloud.calls() if call[1] != "describe"] == RUN


def test_tpu_pod_refuses_in_one_line(gcloud: Gcloud) -> None:
    assert_refused(gcloud("run"), "usage: launch/tpu_pod.sh [--dry_run] create|check|run|stop|delete NAME")
    assert_refused(gcloud("run", "mine", "gone.py", "--workdir=gs://b/r"), "gone.py: no such config")
    assert_refused(gcloud("run", "mine", "configs/demo.py"), "give --workdir=gs://BUCKET/RUN")
    assert_refused(gcloud("create", "mine", "h100-8"), "h100-8: no such type")
    assert_refused(gcloud("fly", "mine"), "fly: usage: launch/tpu_pod.sh")
    assert gcloud.calls() == []
    gcloud.answer(zone="")
    assert_refused(gcloud("check", "mine"), "no zone; gcloud config set compute/zone ZONE")
    gcloud.answer(zone="z", state="")
    assert_refused(gcloud("check", "mine"), "mine: no such slice; launch/tpu_pod.sh create mine TYPE")
    gcloud.answer(state="FAILED")
    assert "error: mine: refused;" in gcloud("check", "mine").stderr


def test_the_real_gcloud_knows_these_commands(gcloud: Gcloud) -> None:
    """Its own parser reads every kind of call; nothing is sent."""
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed")
    gcloud.answer(codes="75\n0")
    commands = {}
    for arguments in (("create", "m", "v6e-8"), ("check", "m"), ("run", "m", "configs/demo.py", "--workdir=gs://b/r")):
        assert gcloud(*arguments).returncode == 0
        for call in gcloud.calls():
            words = ["--command=true" if word.startswith("--command=") else word for word in call]
            commands[tuple(call[:2])] = shlex.join(["gcloud", "compute", "tpus", *words])
    assert len(commands) == 5
    for command in commands.values():
        done = run("gcloud", "meta", "lint-gcloud-commands", f"--command-string={command}")
        (verdict,) = json.loads(done.stdout)
        assert verdict["success"], verdict["error_message"]


# ------------------------------------------------------------------- HF_TOKEN

TOKEN = "hf_secretsecretsecret"
# Stands in for Python: tells its words, and whether it has the token.
HAS_TOKEN = """#!/usr/bin/env bash
[ "$1" != -c ] || exec %s "$@"
echo "$*; token: $([ "$HF_TOKEN" = hf_secretsecretsecret ] && echo yes)"
"""


@pytest.mark.parametrize("dry", [[], ["--dry_run"]], ids=["real", "dry"])
@pytest.mark.parametrize("script", ["local.sh", "local_cluster.sh", "slurm.sbatch"])
def test_the_token_reaches_python_and_no_output(
    config: Path, slurm: dict[str, str], script: str, dry: list[str]
) -> None:
    program(config.parent / "bin" / "python", HAS_TOKEN % sys.executable)
    program(config.parent / "bin" / "srun", SRUN.replace("exit 75", 'exec "${@:3}"'))
    words = [*dry, *(["2"] if script == "local_cluster.sh" else []), config, f"--workdir={config.parent / 'run'}"]
    done = run(LAUNCH / script, *words, **slurm, JAX_PLATFORMS="cpu", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("; token: yes") == (0 if dry else {"slurm.sbatch": 1}.get(script, 2))
    assert TOKEN not in done.stdout + done.stderr


def test_the_token_reaches_the_hosts_of_a_slice_as_a_file(gcloud: Gcloud, tmp_path: Path) -> None:
    sent = tmp_path / "gcloud" / "hugging_face_token"
    command = ("run", "mine", "configs/demo.py", "--workdir=gs://bucket/run")
    assert gcloud("--dry_run", *command, HF_TOKEN=TOKEN).returncode == 0
    assert not sent.exists()
    done = gcloud(*command, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (sent.read_text(), sent.stat().st_mode & 0o777) == (TOKEN, 0o600)
    assert TOKEN not in done.stdout + done.stderr + (tmp_path / "gcloud" / "calls").read_text()
    calls = [call for call in gcloud.calls() if call[0] == "tpu-vm"]
    assert [call[1] for call in calls] == ["ssh", "scp", "scp", "ssh", "ssh"]
    assert not Path(calls[2][2]).exists(), "the file that was sent is gone here"

    # What a host makes of it, up to the installation.
    (install,) = (word.removeprefix("--command=") for word in calls[3] if word.startswith("--command="))
    home = tmp_path / "host"
    home.mkdir()
    for file in (sent, tmp_path / "gcloud" / "survey_jax.tar.gz"):
        shutil.copy(file, home)
    program(tmp_path / "bin" / "python3", "#!/bin/sh\nexit 0\n")
    here = environment(tmp_path / "bin", HOME=str(home))
    subprocess.run(["sh", "-c", install], cwd=home, env=here, check=True)
    kept = home / ".cache" / "huggingface" / "token"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (TOKEN, 0o600)
    read = "import huggingface_hub; print(huggingface_hub.get_token())"
    bare = {name: value for name, value in here.items() if name not in ("HF_TOKEN", "HF_HOME", "PATH")}
    got = subprocess.run([sys.executable, "-c", read], env=bare, capture_output=True, text=True, check=True)
    assert got.stdout.strip() == TOKEN


def test_a_token_that_does_not_arrive_ends_the_run(gcloud: Gcloud, tmp_path: Path) -> None:
    program(tmp_path / "gcloud" / "gcloud", GCLOUD.replace('cp -p "$5"', "exit 3; cp"))
    done = gcloud("run", "mine", "configs/demo.py", "--workdir=gs://bucket/run", HF_TOKEN=TOKEN)
    assert done.returncode == 3
    assert [call[1] for call in gcloud.calls() if call[0] == "tpu-vm"] == ["ssh", "scp", "scp"]
    assert not list(tmp_path.rglob("hugging_face_token"))


def test_no_file_tells_to_put_the_token_on_a_command_line() -> None:
    for file in LAUNCH.iterdir():
        assert "--from-literal" not in file.read_text()
        assert not re.search(r"HF_TOKEN=[\"'$\w]", file.read_text()), file
