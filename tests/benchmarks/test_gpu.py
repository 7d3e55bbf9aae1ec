"""The hour on an accelerator: rehearsed on a CPU from end to end, and its driver, judge and tables one by one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.gpu import chance_survey, report, runner, wheels
from benchmarks.gpu.measurements import KERNELS, MODELS, PARTS, SIDES, SMALL, TRAININGS, Hour, Measurement, planned
from benchmarks.speed import made_model, parity_worker
from places import ROOT
from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_arrays, abstract_model, parameter_name
from survey_jax.model.lora import LoraParam
from survey_jax.model.quantize import dequantize
from survey_jax.parallel.sharding import make_mesh
from survey_jax.planning.architectures import read_architecture
from survey_jax.pretrained.families import decoder_config
from survey_jax.survey.table import read_table
from tiny import SIZES

SPEC = {"dtype": "bfloat16", "job": "lora_qv", "quantize": "", "rows": 1, "row_tokens": 128, "groups": 4}
SPEC |= {"trunk": [20, 40], "remat": "dots", "side": "dense"}
CONFIG, _ = decoder_config(SIZES | {"model_type": "llama", "num_hidden_layers": 1}, "tiny")
FULL = Hour(MODELS, SMALL, SIDES, TRAININGS, (), {"rows": 8, "row_tokens": 1024}, steps=8, questions=150, countries=40)


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", f"--results={folder}", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_rehearsal_runs_from_end_to_end_and_a_second_call_has_nothing_to_do(tmp_path):
    done = call(tmp_path, "--minutes=30")  # however busy the machine
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    results = found["results"]
    assert found["about"]["rehearsal"]
    assert {key.split("/")[0] for key in results} == set(PARTS)
    without = {key: result for key, result in results.items() if set(runner.REASONS) & set(result)}
    assert list(without) == ["parity/tiny/cudnn"]  # which is not a failure
    assert "needs an NVIDIA GPU, and this is cpu" in without["parity/tiny/cudnn"]["unavailable"]
    assert results["leak/tiny/two_part"]["leak"] == 0
    assert 0 < results["parity/tiny/two_part"]["gradient"] < report.CLOSE
    first, second = results["smoke/commands"]["losses"]
    assert second < first
    plan = results["memory/tiny/lora_qv/two_part"]
    assert 0.5 < plan["planned"] / plan["memory"] < 2
    assert results["training/tiny/made"]["steps"] > 5
    tables = (tmp_path / "gpu.md").read_text()
    assert tables.startswith("A rehearsal")
    assert tables in done.stdout
    assert "| tiny | lora_qv |  | PyTorch, sdpa |" in tables
    before = (tmp_path / "gpu.json").read_text()
    again = call(tmp_path)
    assert again.returncode == 0
    assert again.stdout.count(": done before") == len(results)
    assert (tmp_path / "gpu.json").read_text() == before


def test_what_there_is_no_time_for_is_said_and_left_out(tmp_path):
    done = call(tmp_path, "--minutes=0", "--parts=leak")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 left out; the same command goes on with them" in done.stdout
    assert "Left out for lack of time: leak/tiny/two_part." in (tmp_path / "gpu.md").read_text()


def test_the_hour_covers_all_it_promises_and_begins_with_a_cut_across_all_parts():
    everything = planned(FULL, PARTS)
    keys = [m.key for m in everything]
    assert len(keys) == len(set(keys))
    assert [m.part for m in everything if m.part != "torch"][:1] == ["smoke"]
    first = {m.part: m.key for m in reversed(everything)}
    assert max(keys.index(key) for key in first.values()) < 15
    for model in MODELS:
        assert {f"speed/{model}/lora_qv/{side}" for side in SIDES} <= set(keys)
        assert {f"speed/{model}/lora_qv/{kind}/two_part" for kind in ("int8", "nf4")} <= set(keys)
        assert f"speed/{model}/lora_all/two_part" in keys
        assert {f"torch/{model}/lora_qv/{kernel}" for kernel in KERNELS} <= set(keys)
        assert {f"memory/{model}/lora_qv/two_part", f"memory/{model}/lora_qv/dense"} <= set(keys)
    for model in {*MODELS, *SMALL}:
        read_architecture(model)
        assert made_model.json_config(model)["model_type"]
    assert {m.key for m in everything if m.part == "training"} == {
        f"training/{weights}/{data}" for weights in ("smollm2", "gemma3-270m") for data in ("demo", "made")
    }
    assert {m.part for m in planned(FULL, ["leak", "torch"])} == {"leak", "torch"}


def test_who_needs_no_accelerator_leaves_it_to_the_others():
    """jax would take most of a GPU's memory from the commands, or from PyTorch, that these processes run."""
    code = """
import benchmarks.gpu.commands, benchmarks.gpu.report, benchmarks.speed.torch_step_worker as worker
from survey_jax.planning.architectures import read_architecture
import jax._src.xla_bridge as bridge
decoder = read_architecture("gemma-4-E2B")
worker.choose(worker.made_model.prompts(worker.made_model.questions(%r, decoder.vocab_size)), %r)
assert not bridge.backends_are_initialized()
"""
    done = subprocess.run([sys.executable, "-c", code % (SPEC, SPEC)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, limit: float = 60) -> Measurement:
    (tmp_path / "made_worker.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Measurement("speed/x", "made_worker", {"side": "dense", "pair": (1, 2)}, limit)


def test_a_process_tells_its_result_or_its_last_error(tmp_path, monkeypatch):
    fine = measurement(tmp_path, monkeypatch, "import sys\nprint('noise')\nprint(sys.argv[1])")
    found = runner.run(fine, 60, os.environ)
    assert (found["side"], found["pair"]) == ("dense", [1, 2])
    broken = (
        "import sys\nsys.stderr.write('ValueError: of old\\n\\nRuntimeError: out of memory\\n  at x\\n')\nsys.exit(3)"
    )
    found = runner.run(measurement(tmp_path, monkeypatch, broken), 60, os.environ)
    assert found["failed"] == "RuntimeError: out of memory"
    assert "at x" in found["log"]
    found = runner.run(measurement(tmp_path, monkeypatch, "import os\nos._exit(9)"), 60, os.environ)
    assert found["failed"] == "ended with code 9"


def test_a_process_that_takes_too_long_ends_with_all_that_it_started(tmp_path, monkeypatch):
    code = "import subprocess, sys, pathlib\nchild = subprocess.Popen(['sleep', '300'])\n"
    code += f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\nchild.wait()"
    slow = measurement(tmp_path, monkeypatch, code, limit=3)
    assert runner.run(slow, 60, os.environ) == {"failed": "took longer than 3 s"}
    child = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    end = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"
    assert runner.run(slow, 2, os.environ) == {"left_out": "not done in the 2 s that were left"}


def test_only_the_same_measurement_is_done_before():
    m = Measurement("speed/x", "module", {"rows": 8, "flags": ("a", "b")}, 60)
    stored = json.loads(json.dumps({"spec": m.spec, "seconds": 1.0}))
    assert runner.is_done(stored, m)
    assert runner.is_done(stored | {"unavailable": "no GPU"}, m)
    assert not runner.is_done(stored | {"failed": "why"}, m)
    assert not runner.is_done(stored | {"left_out": "weights are absent"}, m)
    assert not runner.is_done(stored | {"spec": {"rows": 4}}, m)
    assert not runner.is_done(None, m)


def test_results_of_another_machine_are_not_added_to(tmp_path):
    file, here = tmp_path / "gpu.json", {"device": "NVIDIA H200", "rehearsal": False}
    assert runner.read_results(file, here) == {}
    file.write_text(json.dumps({"about": here, "results": {"leak/x": {}}}))
    assert runner.read_results(file, here) == {"leak/x": {}}
    with pytest.raises(UserError, match="device is 'NVIDIA H200' there, 'cpu' now; give another --results"):
        runner.read_results(file, here | {"device": "cpu"})
    file.write_text("{")
    with pytest.raises(UserError, match=r"not what benchmarks\.gpu writes"):
        runner.read_results(file, here)


def test_a_back_end_that_is_far_off_or_leaks_is_wrong():
    near, far = {"logits": 0.01, "gradient": 0.03, "probabilities": 0.001}, {"logits": 0.01, "gradient": 0.1}
    results = {"parity/m/dense": near, "parity/m/two_part": near, "leak/m/two_part": {"leak": 0.0}}
    assert report.wrong(results) == []
    results |= {"parity/m/cudnn": near | far, "leak/m/cudnn": {"leak": 0.5}, "speed/m/lora_qv/cudnn": {"failed": "why"}}
    assert report.wrong(results) == [
        "speed/m/lora_qv/cudnn: why",
        "parity/m/cudnn: gradient 0.1 from float32, more than 0.09",
        "leak/m/cudnn: a branch sees another (its answer moved by 0.5)",
    ]


def test_tables_say_how_many_times_as_fast_as_pytorch_and_how_far_plans_are_off():
    step = {"examples": 400, "seconds": 0.5, "flops": 1e14, "peak_flops": 1e15, "device_peak": 2e10, "memory": 1e10}
    step |= {"compiled_in": 20.0}
    results = {
        "speed/m/lora_qv/nf4/two_part": step,
        "torch/m/lora_qv/flash": step | {"examples": 50},
        "torch/m/lora_qv/sdpa": step | {"examples": 100},
        "torch/m/lora_all/sdpa": {"failed": "why"},
        "memory/m/lora_qv/dense": step | {"planned": 1.5e10},
    }
    about = {"devices": 1, "device": "chip", "memory": 8e10, "product_flops": 5e14, "peak_flops": 1e15, "python": "3"}
    lines = report.markdown(about | {"versions": {"jax": "1"}, "rehearsal": False}, results).splitlines()
    assert lines[0] == "1 x chip, 80 GB for jax; a large bfloat16 product here: 500 TFLOP/s (50% of the data sheet). " \
        "Python 3, jax 1."  # fmt: skip
    assert "| m | lora_qv | nf4 | two_part | 800 | 4.00 | 0.5 | 200 | 20% | 20 | 20.0 |" in lines
    assert "| m | lora_qv |  | PyTorch, flash | 100 |  | 0.5 | 200 | 20% | 20 | 20.0 |" in lines
    assert "| m | lora_qv | dense | 15 | 10 | 20 | 0.75 |" in lines
    assert "- torch/m/lora_all/sdpa: failed: why" in lines


def test_a_leak_is_seen(monkeypatch):
    made = made_model.make(SPEC, CONFIG)
    assert parity_worker.leak(made) == 0
    right = sys.modules["survey_jax.training.step"].option_logits

    def leaking(model, batch, letters, c):
        return right(model, batch, letters, c) + 1e-6 * batch["tokens"].sum()

    monkeypatch.setattr("survey_jax.training.step.option_logits", leaking)
    assert parity_worker.leak(made) > 0


def test_distance_by_hand():
    assert parity_worker.distance(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="not finite"):
        parity_worker.distance(np.array([np.nan]), np.array([1.0]))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_drawn_weights_are_of_one_size_however_they_are_stored(kind):
    config, _ = decoder_config(SIZES | {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1}, "tiny")
    mesh = make_mesh(1, 1, 1)
    _, state = nnx.split(abstract_model(config, 4, ("q",), kind))
    drawn = made_model.draw(abstract_arrays(state, mesh, "bfloat16", LoraParam), kind, config.norm_offset)
    values = {parameter_name(path): v.get_value() for path, v in nnx.to_flat_state(drawn)}
    weights = dequantize(values["blocks.gate"][0], values["blocks.gate_scale"][0], jax.numpy.dtype("float32"))
    assert float(weights.std()) == pytest.approx(made_model.STD, rel=0.15)
    assert float(values["embedding"].astype("float32").std()) == pytest.approx(made_model.STD, rel=0.1)
    assert float(jax.numpy.abs(values["blocks.ff_norm"].astype("float32") - 1).max()) < 0.2


def test_a_survey_drawn_by_chance_has_the_shape_of_the_world_values_survey(tmp_path):
    rows = read_table(str(chance_survey.write(tmp_path / "made.jsonl", 150, 40)))
    assert len(rows) == 150 * 40
    assert len({row.question_key for row in rows}) == 150
    assert len({row.question for row in rows}) == 150
    assert len({row.group for row in rows}) == 40
    by_country = [row.probs for row in rows if row.question_id == rows[0].question_id]
    assert np.ptp(np.array(by_country), axis=0).max() > 0.2  # there is something to learn


def test_only_what_a_machine_lacks_travels():
    there = wheels.versions(["jax==0.11.2", "torch==2.11.0+cu130", "Typing_Extensions", "# a remark", "x @ file:///x"])
    assert there == {"jax": "0.11.2", "torch": "", "typing-extensions": "", "x": ""}
    named = [("jax", "0.11.2"), ("typing.extensions", "4"), ("ml_collections", "1.1.0")]
    found = {"install": [{"metadata": {"name": name, "version": version}} for name, version in named]}
    assert wheels.missing(found, there) == ["ml_collections==1.1.0"]
    assert any(need.startswith("flax") for need in wheels.needs((ROOT / "setup.py").read_text()))
