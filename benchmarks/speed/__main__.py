"""How fast this project trains and evaluates, against PyTorch on the same weights, rows and settings.

    python -m benchmarks.speed [--models=smollm2,...] [--jobs=lora_qv,...] [--recipes=a,b,d,...] [--rounds=5]

Recipes: (a) PyTorch as the paper has it and (b) as well as it can be done, both in torch_recipes.py; this project with
(c) the paper's template, (d) question-first trees and (e) such trees of short branches, all in jax_recipes.py; "_bf16"
is the same in bfloat16. Jobs: LoRA on q and v, LoRA on all projections, full fine-tuning, and zero-shot evaluation.

Every recipe is a process of its own; one works at a time, and they take turns, so that a busy moment of the machine
hits all alike (full fine-tuning: one after another, since their optimizers' states would fill the memory). All must
have the same loss on the same rows. One round warms up, and the others are timed. Last, ours start once more with what
the first start has cached. Writes speed.json and speed.md under --results.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.speed import speed_data, speed_report
from benchmarks.speed.speed_report import BFLOAT16, parse
from survey_jax import cli
from survey_jax.common.errors import UserError
from survey_jax.model.architecture import DecoderConfig
from survey_jax.pretrained.export import write_merged, write_metadata_files
from survey_jax.pretrained.open import open_pretrained

TORCH, JAX, PRODUCTS = "benchmarks.speed.torch_recipes", "benchmarks.speed.jax_recipes", "benchmarks.matmul_peak"
MODULES = {
    **dict.fromkeys(("a", "a_bf16", "b", "b_bf16", "b8", "b8_bf16", "b_compile", "b_compile_bf16"), TORCH),
    **dict.fromkeys(("c", "c_bf16", "d", "d_bf16", "e", "e_bf16"), JAX),
    **dict.fromkeys(("peak_torch", "peak_jax"), PRODUCTS),
}
PEAKS = ("peak_torch", "peak_jax")
USUAL = ["a", "a_bf16", "b8", "b8_bf16", "c", "c_bf16", "d", "d_bf16", "e", "e_bf16"]
MODELS = {name: Path(f"checkpoints/weights/{name}.gguf") for name in ("smollm2", "gemma3-270m")}
WVS = Path("../shared/data/wvs7_country.jsonl.gz")  # where developers keep it, beside the project
TOLERANCE = 2e-4  # of float32 losses, nats
LOOSER = 0.05, 0.02  # of bfloat16 losses: relative, and nats besides
PAUSE = 0.3  # seconds in which the threads of who worked last fall asleep

CHOSEN_MODELS = flags.DEFINE_list("models", list(MODELS), f"Of {', '.join(MODELS)}.")
CHOSEN_JOBS = flags.DEFINE_list("jobs", list(speed_data.JOBS), f"Of {', '.join(speed_data.JOBS)}.")
RECIPES = flags.DEFINE_list("recipes", USUAL, f"Of {', '.join(n for n in MODULES if n not in PEAKS)}.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed rounds.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 1, "Training steps a round; fast recipes take some times as many.", lower_bound=1)
DATA = flags.DEFINE_string("survey", str(WVS) if WVS.is_file() else "demo", 'A survey table with splits, or "demo".')
OUTPUT = flags.DEFINE_string("results", "benchmarks/results", "Folder for speed.json and speed.md.")


def main() -> None:
    speed_data.check_choice("models", CHOSEN_MODELS.value, MODELS)
    speed_data.check_choice("jobs", CHOSEN_JOBS.value, speed_data.JOBS)
    speed_data.check_choice("recipes", RECIPES.value, [name for name in MODULES if name not in PEAKS])
    about = {"machine": machine(), "data": Path(DATA.value).name, "rounds": ROUNDS.value, "steps": STEPS.value}
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in CHOSEN_MODELS.value:
            config, exported = export(model, Path(folder) / model)
            for job in CHOSEN_JOBS.value:
                print(f"{model}, {job}", flush=True)
                common = {
                    "job": job,
                    "data": DATA.value,
                    "weights": str(MODELS[model]),
                    "folder": str(exported),
                    "shapes": product_shapes(config),
                }
                with tempfile.TemporaryDirectory(dir=folder) as cache:
                    results.append({"model": model, "job": job, **measure(common | {"cache": cache}, config)})
                write(about, results)
    print(f"\n{speed_report.markdown(results)}\n\nresults: {OUTPUT.value}/speed.json, speed.md")
    if any("failed" in found for result in results for found in result["recipes"].values()):
        raise UserError("not every recipe could be measured, see above")


def export(model: str, folder: Path) -> tuple[DecoderConfig, Path]:
    """Writes a model as a Hugging Face directory, for PyTorch to load."""
    pretrained = open_pretrained(str(MODELS[model]))
    folder.mkdir()
    write_metadata_files(pretrained, folder, "float32")
    write_merged(pretrained, {}, 0.0, folder, "float32")
    return pretrained.config, folder


def product_shapes(c: DecoderConfig) -> list[tuple[int, int, int]]:
    """The largest products of a layer, over as many tokens as (d), (b) and (a) have."""
    return [(tokens, *pair) for tokens in (1024, 2048, 4096) for pair in ((c.width, c.ff_width), (c.ff_width, c.width))]


def measure(common: Mapping[str, Any], config: DecoderConfig) -> dict[str, Any]:
    """All recipes on a model and a job."""
    recipes = RECIPES.value
    if not speed_data.JOBS[common["job"]].train:  # there is no step whose size could differ: b8 is b
        recipes = list(dict.fromkeys(name.replace("b8", "b") for name in recipes))
    workers = {name: Worker(name, common) for name in [*recipes, *PEAKS]}
    everyone = list(workers.values())
    groups = [everyone] if speed_data.JOBS[common["job"]].together else [[worker] for worker in everyone]
    try:
        for group in groups:
            for worker in group:
                worker.begin()
            losses = check_losses({name: worker.first for name, worker in workers.items() if worker.first})
            take_turns(group)
    finally:
        for worker in everyone:
            worker.close()
    peaks = {name: speed_report.peaks(workers.pop(name).flops) for name in PEAKS}
    described = {name: describe(worker, config, common) for name, worker in workers.items()}
    speeds = {n: found["examples_per_second"]["median"] for n, found in described.items() if "failed" not in found}
    return {
        "losses": losses,
        "peaks_by_library": peaks,
        "peaks": {dtype: max(found.get(dtype, 0.0) for found in peaks.values()) for dtype in ("float32", BFLOAT16)},
        "ratios": speed_report.ratios(speeds),
        "recipes": described,
    }


def take_turns(group: Sequence["Worker"]) -> None:
    """All rounds, one worker at a time; then they end."""
    for number in range(ROUNDS.value + 1):
        for worker in group:
            worker.turn(number, STEPS.value)
    for worker in group:
        worker.close()


def describe(worker: "Worker", config: DecoderConfig, common: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a recipe that has done its rounds; starts it once more."""
    again = Worker(worker.name, common)
    if MODULES[worker.name] == JAX and not worker.failed:  # PyTorch caches nothing
        again.begin()
        again.close()
    if failed := worker.failed or again.failed:
        return {"failed": failed}
    job = speed_data.JOBS[common["job"]]
    found = speed_report.figures(config, job, worker.loaded["options"], worker.rounds[1:])
    return {name: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for name, v in found.items()} | {
        "trained_parameters": worker.loaded["trained"],
        "loading_peak": worker.last["loading_peak"],
        "peak": worker.last["peak"],
        "first_step_s": worker.first_step_s,
        "compile_s": worker.first["compile_s"],
        "second_start_s": again.first_step_s or None,
        "step_seconds_of_rounds": [r.seconds for r in worker.rounds[1:]],
    }


class Worker:
    """A recipe's process. What goes wrong with it is kept in `failed`, and it takes no more turns.

    Attributes:
      first, loaded, last: replies to "first", "load" and whatever came last.
      first_step_s: from the start of the process to the end of the first step.
      rounds: of a recipe, the warm-up first; flops: of the products of matmul_peak.
    """

    def __init__(self, name: str, common: Mapping[str, Any]):
        self.name, self.failed = name, ""
        self.loaded: dict[str, Any] = {}
        self.first: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.first_step_s = 0.0
        self.rounds: list[speed_data.Round] = []
        self.flops: list[Any] = []
        recipe, dtype = parse(name)
        self._command = [sys.executable, "-m", MODULES[name]]
        self._command.append(json.dumps({**common, "recipe": recipe, "dtype": dtype}))
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Starts the process, loads, and takes the first step."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # read when it fails
        self._log, begin = log, time.perf_counter()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        self.loaded = self._ask(do="load")
        self.first = self._ask(do="first")
        self.first_step_s = time.perf_counter() - begin
        told = "".join(f", {template} {loss:.5f}" for template, loss in self.first.get("losses", {}).items())
        if not self.failed:
            self._say(f"first step after {self.first_step_s:.1f} s{told}")

    def turn(self, number: int, steps: int) -> None:
        """A round; number 0 warms up."""
        reply = self._ask(do="round", number=number, steps=steps)
        if "flops" in reply:
            self.flops.append(reply["flops"])
            fastest = speed_report.peaks([reply["flops"]])
            self._say(f"round {number}: " + ", ".join(f"{v / 1e9:.0f} GFLOP/s in {k}" for k, v in fastest.items()))
        elif reply:
            done = speed_data.as_round(reply)
            self.rounds.append(done)
            self._say(
                f"round {number}: {done.examples / sum(done.seconds):.2f} examples/s, peak {reply['peak'] / 1e9:.2f} GB"
            )

    def close(self) -> None:
        """Ends the process."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.stdin.close()  # type: ignore[union-attr]
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _ask(self, **command: Any) -> dict[str, Any]:
        """The reply; an empty one once something went wrong."""
        if self.failed or self._process is None:
            return {}
        time.sleep(PAUSE)
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            print(json.dumps(command), file=stdin, flush=True)
            line = stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            line = ""
        if not line:
            self._fail(self._process.wait())
            return {}
        self.last = json.loads(line)
        return self.last

    def _fail(self, code: int) -> None:
        self._log.seek(0)
        text = self._log.read()
        self.failed = f"ended with code {code}"
        self._say(f"{self.failed}\n{text[-3000:]}")

    def _say(self, text: str) -> None:
        print(f"  {self.name}: {text}", flush=True)


def check_losses(first: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Losses by template and recipe.

    Raises:
      UserError: two differ, or they are not of the same tokens.
    """
    found: dict[str, dict[str, float]] = {}
    for template, name, loss, asked in _losses(first):
        others = found.setdefault(template, {})
        for other, theirs in others.items():
            if asked != first[other]["asked"][template]:
                raise UserError(f"{name} and {other} do not ask the same of template {template!r}")
            half = BFLOAT16 in (parse(name)[1], parse(other)[1])
            if abs(loss - theirs) > (LOOSER[0] * abs(theirs) + LOOSER[1] if half else TOLERANCE):
                raise UserError(f"loss of template {template!r}: {loss:.6f} by {name}, {theirs:.6f} by {other}")
        others[name] = loss
    return found


def _losses(first: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float, int]]:
    for name, reply in first.items():
        for template, loss in reply["losses"].items():
            yield template, name, loss, reply["asked"][template]


def machine() -> str:
    """Processor and cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def write(about: Mapping[str, Any], results: list[dict[str, Any]]) -> None:
    """speed.json and speed.md."""
    folder = Path(OUTPUT.value)
    speed_report.write_whole(folder / "speed.json", json.dumps({**about, "results": results}, indent=2))
    speed_report.write_whole(folder / "speed.md", speed_report.markdown(results))


if __name__ == "__main__":
    cli.run(main)
