"""A training step's memory as survey_jax.plan estimates it beforehand, and as it turns out; for benchmarks.gpu.

`python -m benchmarks.speed.memory_worker SPECIFICATION` is not for people. A specification is that of step_worker.py.
The plan is made in a process of its own, on virtual CPU devices, as on a machine without accelerators. Prints a line of
JSON: "planned" (bytes), "plan" (bytes by what they hold), "planned_in" (seconds of compiling), "memory" (bytes, as the
device's compiler says) and "device_peak" (the most that the process of the step held; null where the platform does not
tell).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import made_model, speed_data, step_worker
from survey_jax.model.architecture import DecoderConfig


def measure(spec: dict[str, Any], decoder: DecoderConfig | None = None) -> dict[str, Any]:
    """What the process prints. RuntimeError where the plan fails."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "survey_jax.plan", *plan_flags(spec), f"--json={output}"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as planning:
            step = step_worker.measure(spec, decoder)
            printed, _ = planning.communicate()
        if planning.returncode:
            raise RuntimeError(f"survey_jax.plan: {printed.strip()[-300:]}")
        plan = json.loads(output.read_text(encoding="utf-8"))["plans"][0]
    found = {"planned": plan["total"], "plan": plan["memory"], "planned_in": plan["compiled_in"]}
    return found | {name: step[name] for name in ("device", "memory", "device_peak")}


def plan_flags(spec: dict[str, Any]) -> list[str]:
    """The specification's step as settings of survey_jax.plan."""
    job = speed_data.JOBS[spec["job"]]
    values = {
        "model.dtype": spec["dtype"],
        "model.remat": spec["remat"],
        "model.quantize": spec["quantize"],
        "lora.rank": job.rank,
        "lora.projections": job.projections,
        "batch.batch_size": spec["rows"],
        "batch.seq_len": spec["row_tokens"],
        "batch.answers_per_seq": made_model.answers_per_seq(spec),
    }
    return [
        "--config=configs/gemma.py",
        f"--model={spec['model']}",
        "--mesh=data:1,fsdp:1,tensor:1",
        f"--options={made_model.OPTIONS}",
        *(f"--config.{name}={value}" for name, value in values.items()),
    ]


if __name__ == "__main__":
    made_model.tell(measure)
