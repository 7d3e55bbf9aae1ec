"""A real Slurm on this machine for tests: its own munge, controller and node daemon, in a folder of its own."""

import getpass
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "srun")
_SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

# cred_expire also is how long a requeued job has to wait before it starts again.
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket,cred_expire=5
CredType=cred/munge
FirstJobId={first_job}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 Gres=gpu:8 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=2 State=UP
"""


def missing() -> list[str]:
    """Programs of Debian's slurmctld, slurmd, slurm-client and munge that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]


class SlurmCluster:
    """One node, `localhost`, that claims 64 CPUs and 8 GPUs; partitions `low`, the default, and `high`, which preempts.

    Args:
      home: an empty folder for everything it writes.
    """

    def __init__(self, home: Path):
        self.home = home
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {"SLURM_CONF": str(home / "slurm.conf")}

    def start(self) -> None:
        """Returns once the node takes jobs."""
        for folder in ("state", "spool"):
            (self.home / folder).mkdir()
        key = self.home / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(64))
        for number in range(8):  # files pass for devices where no cgroup guards them
            (self.home / f"gpu{number}").touch()
        (self.home / "gres.conf").write_text(f"Name=gpu File={self.home}/gpu[0-7]\n")
        conf = _CONF.format(
            home=self.home,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            ports=[_free_port(), _free_port()],
            first_job=random.randrange(1, 1 << 16),  # jax derives the coordinator's port from the job's number
        )
        (self.home / "slurm.conf").write_text(conf)
        files = [f"--{name}={self.home}/munge.{name.partition('-')[0]}" for name in _MUNGE_FILES]
        self._daemon("munged", "--foreground", "--force", *files)
        _wait("munge's socket", lambda: (self.home / "munge.socket").exists())
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        _wait("the node", lambda: "State=IDLE" in self.call("scontrol", "show", "node", "localhost", check=False))

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        try:
            self.call("scancel", f"--user={getpass.getuser()}", check=False)
            _wait("the last job", lambda: not self.call("squeue", "--noheader", check=False))
        finally:
            for daemon in reversed(self._daemons):
                daemon.terminate()
                daemon.wait(timeout=10)

    def call(self, *command: str, check: bool = True, **environment: str) -> str:
        """What a Slurm command prints."""
        merged = self.environment | environment
        done = subprocess.run(command, env=merged, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, *arguments: str | Path, **environment: str) -> str:
        """Submits a job; gives its number."""
        return self.call("sbatch", "--parsable", *map(str, arguments), **environment).strip()

    def requeue(self, job: str) -> None:
        """As a person or the scheduler would, at any moment of its run."""
        self.call("scontrol", "requeue", job)

    def state(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, by name."""
        words = self.call("scontrol", "show", "job", job).split()
        return dict(word.partition("=")[::2] for word in words)

    def finished(self, job: str, seconds: float = 120) -> dict[str, str]:
        """Waits for a job's end; gives its state."""
        running = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
        _wait(f"job {job}", lambda: self.state(job)["JobState"] not in running, seconds)
        return self.state(job)

    def _daemon(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=_SEARCH)
        assert program
        with (self.home / f"{name}.log").open("wb") as log:
            command = [program, *arguments]
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))


_MUNGE_FILES = ("key-file", "socket", "pid-file", "log-file", "seed-file")


def _wait(what: str, until: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: nothing within {seconds} s")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
