"""What the hour measures: a process each, in parts, the most valuable first."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

STEP, PARITY = "benchmarks.speed.step_worker", "benchmarks.speed.parity_worker"
TORCH, MEMORY = "benchmarks.speed.torch_step_worker", "benchmarks.speed.memory_worker"
COMMANDS = "benchmarks.gpu.commands"
SIDES = ("two_part", "cudnn", "dense")
KNOWN_SIDES = (*SIDES, "splash")
KERNELS = ("sdpa", "flash", "compiled")
MODELS = ("Meta-Llama-3-8B", "gemma-3-1b-pt", "Qwen2.5-7B", "gemma-3-4b-pt", "gemma-4-E2B")
SMALL = ("gemma-3-1b-pt", "SmolLM2-135M", "gemma-4-E2B")  # float32 beside bfloat16 takes memory and time
# Weights, the config file of their training, and the data.
TRAININGS = (("smollm2", "configs/smollm2.py", "demo"), ("gemma3-270m", "configs/gemma.py", "made"),
             ("smollm2", "configs/smollm2.py", "made"), ("gemma3-270m", "configs/gemma.py", "demo"))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A process to run.

    Attributes:
      key: its part, and what is measured there: "speed/gemma-3-1b-pt/lora_qv/two_part".
      module: takes `spec` as JSON, and prints what it found.
      limit: seconds that it may take.
    """

    key: str
    module: str
    spec: dict[str, Any]
    limit: float

    @property
    def part(self) -> str:
        return self.key.partition("/")[0]


@dataclasses.dataclass(frozen=True)
class Hour:
    """What to measure, and in which sizes.

    Attributes:
      models, small: for speed and memory, and for parity and leaks.
      sides: attention back ends; the first is also that of further jobs and bases.
      trainings: weights, config file and data of each training.
      flags: settings of trainings.
      sizes: of a step; of made surveys: "questions" and "countries".
      brief: only one measurement of a kind, as rehearsals are.
    """

    models: tuple[str, ...]
    small: tuple[str, ...]
    sides: tuple[str, ...]
    trainings: tuple[tuple[str, str, str], ...]
    flags: tuple[str, ...]
    sizes: dict[str, Any]
    steps: int
    questions: int
    countries: int
    brief: bool = False


Group = list[Measurement]


def smoke(hour: Hour) -> Iterable[Group]:
    """The commands on a tiny model."""
    yield [Measurement("smoke/commands", COMMANDS, {"what": "smoke", "dtype": "bfloat16"}, 240)]


def parity(hour: Hour) -> Iterable[Group]:
    """Each back end against float32."""
    return _compared(hour, "parity", hour.sides[: 2 if hour.brief else None])


def leak(hour: Hour) -> Iterable[Group]:
    """Whether branches see one another."""
    return _compared(hour, "leak", hour.sides[: 1 if hour.brief else None])


def _compared(hour: Hour, what: str, sides: tuple[str, ...]) -> Iterable[Group]:
    sizes = hour.sizes | {"rows": min(2, hour.sizes["rows"]), "job": "lora_all", "quantize": "", "what": what}
    for model in hour.small:
        yield [
            Measurement(f"{what}/{label(model)}/{side}", PARITY, sizes | {"model": model, "side": side}, 150)
            for side in sides
        ]


def speed(hour: Hour) -> Iterable[Group]:
    """First every back end, then other adapters and bases."""
    for model in hour.models:
        yield [_step(hour, "speed", model, "lora_qv", "", side) for side in hour.sides[: 1 if hour.brief else None]]
    others = [("lora_all", "int8")] if hour.brief else [("lora_qv", "int8"), ("lora_qv", "nf4"), ("lora_all", "")]
    for model in hour.models:
        yield [_step(hour, "speed", model, job, quantize, hour.sides[0]) for job, quantize in others]


def memory(hour: Hour) -> Iterable[Group]:
    """Of the first back end, and of dense attention, which plans assume."""
    for model in hour.models:
        sides = hour.sides[:1] if hour.brief else tuple(dict.fromkeys((hour.sides[0], "dense")))
        yield [_step(hour, "memory", model, "lora_qv", "", side, MEMORY, 240) for side in sides]


def _step(
    hour: Hour, part: str, model: str, job: str, quantize: str, side: str, module: str = STEP, limit: float = 150
) -> Measurement:
    steps = hour.steps if part == "speed" else 1
    spec = {"model": model, "side": side, "job": job, "quantize": quantize, "steps": steps}
    base = f"/{quantize}" if quantize else ""
    return Measurement(f"{part}/{label(model)}/{job}{base}/{side}", module, hour.sizes | spec, limit)


def torch(hour: Hour) -> Iterable[Group]:
    """PyTorch on the same shapes; torch.compile last, since it takes longest."""
    yield from ([_torch(hour, model, "lora_qv", "sdpa")] for model in hour.models)
    if not hour.brief:
        yield from ([_torch(hour, model, "lora_qv", "flash")] for model in hour.models)
        yield from ([_torch(hour, model, "lora_all", "sdpa")] for model in hour.models)
        yield from ([_torch(hour, model, "lora_qv", "compiled")] for model in hour.models)


def _torch(hour: Hour, model: str, job: str, kernel: str) -> Measurement:
    spec = {"model": model, "kernel": kernel, "job": job, "quantize": "", "steps": hour.steps}
    return Measurement(f"torch/{label(model)}/{job}/{kernel}", TORCH, hour.sizes | spec, 200)


def training(hour: Hour) -> Iterable[Group]:
    """Real weights, from the first step to the report."""
    for weights, config, data in hour.trainings:
        spec = {"what": "training", "weights": weights, "config": config, "data": data, "flags": hour.flags}
        spec["evaluate"] = not hour.brief
        sizes = {"questions": hour.questions, "countries": hour.countries}
        name = label(weights)
        yield [Measurement(f"training/{name}/{data}", COMMANDS, spec | (sizes if data == "made" else {}), 300)]


PARTS: dict[str, Callable[[Hour], Iterable[Group]]] = {
    "smoke": smoke,
    "parity": parity,
    "leak": leak,
    "speed": speed,
    "torch": torch,
    "memory": memory,
    "training": training,
}


def planned(hour: Hour, parts: Iterable[str]) -> list[Measurement]:
    """All measurements of some parts in their order: each part's first group, then each one's second, and so on.

    So a budget that ends early has cut across all parts.
    """
    turns = itertools.zip_longest(*(PARTS[part](hour) for part in PARTS if part in parts), fillvalue=[])
    return [measurement for turn in turns for group in turn for measurement in group]


def label(model: str) -> str:
    """The name of a model, of the folder of a config.json or of weights, or of a file of weights."""
    path = Path(model)
    if path.name == "config.json":
        return path.parent.name
    return path.stem if path.suffix == ".gguf" else path.name
