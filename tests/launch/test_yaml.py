"""The YAML of launch/ against what reads it: the JobSet API's own schema and SkyPilot's own parser."""

import base64
import copy
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from places import ROOT

SKYPILOT = ROOT / "launch" / "skypilot.yaml"
TOKEN = "hf_secretsecretsecret"
JOBSETS = ("gke_jobset_tpu.yaml", "gke_jobset_gpu.yaml")


def jobset(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "launch" / name).read_text())


def job_of(jobset: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def container_of(jobset: dict[str, Any]) -> dict[str, Any]:
    (container,) = job_of(jobset)["template"]["spec"]["containers"]
    return container


def flags_of(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])


def check_schema(document: dict[str, Any]) -> None:
    """Raises where the JobSet API would refuse a field, a type or an omission."""
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    document = copy.deepcopy(document)
    limits = container_of(document)["resources"].pop("limits")  # its quantities are modelled as objects there
    assert all(isinstance(quantity, int | str) for quantity in limits.values())
    models.JobsetV1alpha2JobSet.model_validate(document, strict=True, extra="forbid")


@pytest.mark.parametrize("name", JOBSETS)
def test_a_jobset_fits_the_schema_and_a_slip_in_it_does_not(name: str) -> None:
    check_schema(jobset(name))
    slips = [
        (lambda d: d["spec"]["failurePolicy"], "maxRestart", 3),
        (lambda d: d["spec"]["failurePolicy"], "maxRestarts", "3"),
        (job_of, "podFailurePolicies", []),
        (lambda d: job_of(d)["template"]["spec"], "terminationGracePeriod", 3),
        (container_of, "arguments", []),
        (lambda d: container_of(d)["env"][0], "valueFrom", {"secretRef": {}}),
    ]
    for where, key, value in slips:
        document = jobset(name)
        where(document)[key] = value
        with pytest.raises(ValueError, match="validation error"):
            check_schema(document)


@pytest.mark.parametrize("name", JOBSETS)
def test_bad_input_ends_a_jobset_and_a_stopped_run_goes_on(name: str) -> None:
    """Follows a pod's exit code through the Job's rules and the JobSet's, as their documentation has them."""
    document = jobset(name)
    job, policy = job_of(document), document["spec"]["failurePolicy"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert (job["completionMode"], job["completions"]) == ("Indexed", job["parallelism"])

    def action(code: int, disrupted: bool = False) -> str:
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
            codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
            assert rule["action"] == "FailJob"
            assert not codes or (codes["operator"], codes["containerName"]) == ("In", container_of(document)["name"])
            lost = disrupted and "DisruptionTarget" in [condition["type"] for condition in conditions]
            if lost or (codes and code in codes["values"]):
                reason, message = "PodFailurePolicy", f"... matching FailJob rule at index {index}"
                break
        for rule in policy["rules"]:
            patterns = rule.get("onJobFailureMessagePatterns", [""])
            if reason in rule["onJobFailureReasons"] and any(re.search(pattern, message) for pattern in patterns):
                return rule["action"]
        return "RestartJobSet"

    assert action(2) == "FailJobSet"
    assert action(75) == action(75, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert action(137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert action(1) == "RestartJobSet"
    assert policy["maxRestarts"] > 0


def test_the_numbers_of_the_tpu_jobset_agree() -> None:
    document = jobset("gke_jobset_tpu.yaml")
    selector = job_of(document)["template"]["spec"]["nodeSelector"]
    chips = math.prod(map(int, selector["cloud.google.com/gke-tpu-topology"].split("x")))
    hosts, each = job_of(document)["parallelism"], container_of(document)["resources"]["limits"]["google.com/tpu"]
    assert chips == hosts * each == int(flags_of(container_of(document))["config.mesh.devices"])


def test_the_numbers_of_the_gpu_jobset_agree() -> None:
    document = jobset("gke_jobset_gpu.yaml")
    container, flags = container_of(document), flags_of(container_of(document))
    nodes, each = job_of(document)["parallelism"], container["resources"]["limits"]["nvidia.com/gpu"]
    assert nodes == int(flags["processes"])
    assert nodes * each == int(flags["config.mesh.devices"])
    assert flags["coordinator"] == f"$(COORDINATOR):{container['ports'][0]['containerPort']}"
    assert document["spec"]["coordinator"]["replicatedJob"] == document["spec"]["replicatedJobs"][0]["name"]
    defined = {variable["name"] for variable in container["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= defined


@pytest.mark.parametrize("name", JOBSETS)
def test_the_queue_takes_a_jobset(name: str) -> None:
    """Kueue starts it where it has the label, and a quota for all that its pods ask for on nodes like its own."""
    text = (ROOT / "launch" / name).read_text()
    labelled = re.sub("^  # (labels: .*)$", r"  \1", text, flags=re.MULTILINE)
    assert labelled != text
    document = yaml.safe_load(labelled)
    check_schema(document)

    queues = list(yaml.safe_load_all((ROOT / "launch" / "gke_kueue.yaml").read_text()))
    assert {queue["apiVersion"] for queue in queues} == {"kueue.x-k8s.io/v1beta2"}
    (local,) = (queue for queue in queues if queue["kind"] == "LocalQueue")
    (cluster,) = (queue for queue in queues if queue["kind"] == "ClusterQueue")
    flavors = {queue["metadata"]["name"]: queue["spec"] for queue in queues if queue["kind"] == "ResourceFlavor"}
    assert document["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": local["metadata"]["name"]}
    assert local["spec"] == {"clusterQueue": cluster["metadata"]["name"]}
    assert set(cluster["spec"]) == {"namespaceSelector", "resourceGroups"}

    pods, job = job_of(document)["parallelism"], job_of(document)["template"]["spec"]
    ((resource, each),) = container_of(document)["resources"]["limits"].items()
    (group,) = (group for group in cluster["spec"]["resourceGroups"] if resource in group["coveredResources"])
    (flavor,) = group["flavors"]
    assert flavor["resources"] == [{"name": resource, "nominalQuota": pods * each}]
    assert flavors[flavor["name"]] == {"nodeLabels": job["nodeSelector"]}


@pytest.mark.parametrize("name", JOBSETS)
def test_the_token_is_a_secret_of_the_cluster(name: str) -> None:
    """Made by a command that does not have it among its words."""
    (variable,) = (v for v in container_of(jobset(name))["env"] if v["name"] == "HF_TOKEN")
    secret = {"name": "hugging-face", "key": "token", "optional": True}
    assert variable == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}
    text = (ROOT / "launch" / name).read_text()
    (made,) = re.findall(r"^#   (printf .* kubectl create secret .*)$", text, re.MULTILINE)
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    command = ["bash", "-c", f"{made} --dry-run=client --output=yaml"]
    done = subprocess.run(command, env=os.environ | {"HF_TOKEN": TOKEN}, capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert (found["kind"], found["metadata"]["name"]) == ("Secret", secret["name"])
    assert {key: base64.b64decode(value).decode() for key, value in found["data"].items()} == {secret["key"]: TOKEN}


READ = """
import json, sys, sky, yaml
from sky.jobs import recovery_strategy
from sky.utils import registry

from places import ROOT
config = yaml.safe_load(open("launch/skypilot.yaml"))
given = {"env_overrides": [("CONFIG", "c.py"), ("WORKDIR", "gs://bucket/run")]}
assert not sky.Task.from_yaml_config(dict(config), **given).secrets["HF_TOKEN"].get_secret_value()  # is not needed
task = sky.Task.from_yaml_config(config, **given, secrets_overrides=[("HF_TOKEN", sys.argv[1])])
assert task.secrets["HF_TOKEN"].get_secret_value() == sys.argv[1]
print(task, task.envs, task.secrets)
(resources,) = task.resources
recovery = resources.job_recovery
known = registry.JOBS_RECOVERY_STRATEGY_REGISTRY.from_str(recovery["strategy"]) is not None
print(json.dumps([task.num_nodes, task.envs["CONFIG"], resources.use_spot, recovery["recover_on_exit_codes"], known]))
sky.Task.from_yaml("launch/skypilot.yaml")
"""


@pytest.mark.skipif(not importlib.util.find_spec("sky"), reason="skypilot is not installed")
def test_skypilot_reads_its_task(tmp_path: Path) -> None:
    """And refuses it where the config or the bucket is not given."""
    environment = os.environ | {"HOME": str(tmp_path)}  # it writes there
    command = [sys.executable, "-c", READ, TOKEN]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2, "c.py", True, [75], True]
    assert "Environment variable 'CONFIG' is None" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_skypilot_runs_one_process_a_node(tmp_path: Path) -> None:
    """The `run` of the task, as a node's shell has it."""
    python = tmp_path / "survey_jax" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "c.py").touch()
    node = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    given = {"SKYPILOT_NUM_GPUS_PER_NODE": "8", "CONFIG": "c.py", "WORKDIR": "gs://b/r", "FLAGS": "--a=1 --b=2"}

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HOME": str(tmp_path), "HF_TOKEN": TOKEN} | node | given | changes
        command = ["bash", "-c", yaml.safe_load(SKYPILOT.read_text())["run"]]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    expected = "--config=c.py --workdir=gs://b/r --config.mesh.devices=16 --coordinator=10.0.0.1:8476 --processes=2"
    assert run().stdout.split() == ["-m", "survey_jax.train", *expected.split(), "--process=1", "--a=1", "--b=2"]
    for changes, message in (
        ({"CONFIG": "gone.py"}, "error: gone.py: no such config"),
        ({"WORKDIR": "runs/x"}, "error: WORKDIR=runs/x: give a bucket, such as gs://BUCKET/RUN"),
    ):
        refused = run(**changes)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert refused.stderr.startswith(message)
