"""Weak scaling on paper: the same rows on each device, from 8 devices to 1,024; a Markdown table.

    python -m benchmarks.scaling [--chip=h100]

Each line is a plan (survey_jax.plan) of its own process. Efficiency is the time of a step on the fewest devices over
its time on that many: if nothing that is sent hides behind computing, and if all does that can.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import app, flags

CHIP = flags.DEFINE_string("chip", "h100", "As of survey_jax.plan.")
DEVICES = (8, 64, 256, 1024)
# model, rank (0: full fine-tuning), how fsdp grows, rows of a device
CASES = (
    ("meta-llama/Meta-Llama-3-8B", 16, "8", 8),
    ("meta-llama/Meta-Llama-3-70B", 16, "8", 4),
    ("meta-llama/Meta-Llama-3-70B", 16, "all", 4),
    ("Qwen/Qwen2.5-32B", 0, "64", 4),
    ("Qwen/Qwen2.5-32B", 0, "all", 4),
)


def main(argv: list[str]) -> None:
    del argv
    print("| model | trained | devices | data x fsdp | memory | sent a step | of it, between hosts | step, at best | "
          "efficiency | planned in |")  # fmt: skip
    print("|---|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for model, rank, fsdp, rows in CASES:
        first: list[float] = []
        for devices in DEVICES:
            size = devices if fsdp == "all" else min(int(fsdp), devices)
            made, seconds = planned(model, rank, devices // size, size, rows)
            times = made["seconds_at_best"]
            first = first or times
            shares = " to ".join(f"{a / b:.0%}" for a, b in zip(reversed(first), reversed(times), strict=True))
            sent, leaving = (sum(made["sent"][k].values()) / 1e9 for k in ("total", "leaving"))
            what = f"LoRA {rank}" if rank else "all"
            full = "" if made["fits"] else ", too much"
            print(
                f"| {model.split('/')[1]} | {what} | {devices:,} | {devices // size} x {size} | "
                f"{made['total'] / 1e9:.1f} GB{full} | {sent:.1f} GB | {leaving:.2f} GB | {times[0]:.2f} to "
                f"{times[1]:.2f} s | {shares} | {seconds:.0f} s |",
                flush=True,
            )


def planned(model: str, rank: int, data: int, fsdp: int, rows: int) -> tuple[dict[str, Any], float]:
    """A plan's numbers, and the seconds that its process took."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "plan.json"
        command = [
            sys.executable, "-m", "survey_jax.plan", "--config=configs/gemma.py", f"--model={model}",
            f"--mesh=data:{data},fsdp:{fsdp}", f"--chip={CHIP.value}", f"--json={output}",
            f"--config.lora.rank={rank}", f"--config.batch.batch_size={rows * data * fsdp}", 
            "--config.model.remat=full",
        ]  # fmt: skip
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(output.read_text())["plans"][0], time.perf_counter() - begin


if __name__ == "__main__":
    app.run(main)
