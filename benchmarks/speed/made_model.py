"""A model and a batch drawn by chance in the shapes of a published model, for workers that measure a training step.

A specification (JSON) has "model" (of survey_jax/data/architectures.json, or a config.json), "side" (an attention back
end), "dtype", "job" (of speed_data.JOBS), "quantize", "rows", "row_tokens", "groups", "trunk" (tokens, least and most)
and "remat".
"""

import dataclasses
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import speed_data
from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import BatchShape, Question, cut, pack, to_batch, tree_shape, trunk_room
from survey_jax.model.architecture import DecoderConfig
from survey_jax.parallel.accelerators import by_kind
from survey_jax.planning.architectures import known_architectures, read_architecture
from survey_jax.survey.table import Answer

OPTIONS = 6
BRANCH = (8, 16)  # tokens, least and most
STD = 0.02  # of weights
# Of codes drawn evenly, so that weights have about STD.
SCALES = {"int8": STD / 73, "nf4": STD / 0.57}


@dataclasses.dataclass(frozen=True)
class Made:
    """What a training step takes.

    Attributes:
      graphdef, train, frozen: the model, split; weights in their places on the device.
      batch: host arrays, without microbatches.
      answers_per_seq: answers that a row has room for.
      trees: what the batch holds, token for token once.
    """

    decoder: DecoderConfig
    config: Any
    step_config: Any
    mesh: Any
    graphdef: Any
    train: Any
    frozen: Any
    batch: dict[str, np.ndarray]
    answers_per_seq: int
    trees: list[speed_data.Tree]


class AbsentError(UserError):
    """A file or a package is not there, and may be another time."""


def tell(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Prints what was measured by the process's one argument, a specification, as a line of JSON.

    Where it cannot be measured here, the line has the reason as "unavailable", or as "left_out" if that can be mended.
    """
    try:
        found = measure(json.loads(sys.argv[1]))
    except AbsentError as error:
        found = {"left_out": str(error)}
    except UserError as error:
        found = {"unavailable": str(error)}
    print(json.dumps(found), flush=True)


def json_config(model: str) -> dict[str, Any]:
    """A model's config.json: a file's, or a known model's."""
    if Path(model).is_file():
        return json.loads(Path(model).read_text(encoding="utf-8"))
    names = {
        name.lower(): e["config"] for e in known_architectures() for i in e["ids"] for name in (i, i.split("/")[-1])
    }
    return names[model.lower()]


def questions(spec: dict[str, Any], vocabulary: int) -> list[Question]:
    """Of random tokens; enough for a step."""
    draw = np.random.default_rng(0)

    def tokens(bounds: Sequence[int]) -> np.ndarray:
        return draw.integers(0, vocabulary, draw.integers(*bounds)).astype(np.int32)

    groups, least = spec["groups"], spec["trunk"][0] + spec["groups"] * BRANCH[0]
    return [
        Question(tokens(spec["trunk"]), tuple(tokens(BRANCH) for _ in range(groups)), groups * n + np.arange(groups))
        for n in range(2 * math.ceil(spec["rows"] * spec["row_tokens"] / least))
    ]


def prompts(asked: list[Question]) -> list[Prompt]:
    """Of all their branches, each with a random distribution over the options."""
    shares = np.random.default_rng(1).dirichlet(np.ones(OPTIONS), sum(len(q.branches) for q in asked))
    texts = (np.concatenate([q.trunk, b]) for q in asked for b in q.branches)
    names = tuple(f"option {i}" for i in range(OPTIONS))
    return [
        Prompt(Answer("random", "q", "q", names, (), tuple(p.tolist())), text, tuple(range(OPTIONS)))
        for p, text in zip(shares, texts, strict=True)
    ]


def answers_per_seq(spec: dict[str, Any]) -> int:
    """Answers that a row has room for: as many as the shortest branches fill."""
    return spec["row_tokens"] // BRANCH[0]


def make(spec: dict[str, Any], decoder: DecoderConfig | None = None) -> Made:
    """Draws the model and a full batch; the mesh, of one device, becomes the current one.

    Args:
      decoder: in place of the specification's model.

    Raises:
      UserError: this device or this model cannot do what the specification says.
    """
    import jax
    from flax import nnx

    from survey_jax.config import BatchConfig, Config, LoraConfig, ModelConfig
    from survey_jax.model.abstract import abstract_arrays, abstract_model
    from survey_jax.parallel.sharding import make_mesh
    from survey_jax.training.build import check_attention, make_step_config, trainable

    decoder, job = decoder or read_architecture(spec["model"]), speed_data.JOBS[spec["job"]]
    tokens, groups = spec["row_tokens"], spec["groups"]
    model = ModelConfig(weights="random", dtype=spec["dtype"], quantize=spec["quantize"])
    model.attention, model.remat = spec["side"], spec["remat"]
    config = Config(
        model=model,
        lora=LoraConfig(rank=job.rank, projections=job.projections),
        batch=BatchConfig(spec["rows"], tokens, answers_per_seq(spec), groups),
    )
    mesh = make_mesh(1, 1, 1)
    jax.set_mesh(mesh)
    check_attention(config, decoder, jax.devices()[0])
    asked = questions(spec, decoder.vocab_size)
    shape = BatchShape(spec["rows"], tokens, answers_per_seq(spec), trunk_room(asked, tokens, groups), OPTIONS)
    rows = pack([t for q in asked for t in cut(q, range(groups), groups, shape)], shape)[: shape.batch_size]
    batch = {k: v for k, v in to_batch(rows, prompts(asked), shape).items() if k != "prompt"}
    step_config = make_step_config(config, decoder)
    if spec["side"] != "dense":
        step_config = dataclasses.replace(step_config, tree_shape=tree_shape(asked, shape, spec["side"]))
    kind = trainable(config)
    graphdef, state = nnx.split(abstract_model(decoder, job.rank, job.projections, spec["quantize"]))
    drawn = draw(abstract_arrays(state, mesh, spec["dtype"], kind), spec["quantize"], decoder.norm_offset)
    graphdef, train, frozen = nnx.split(nnx.merge(graphdef, drawn), kind, ...)  # type: ignore[misc]
    trees = [(len(t.question.trunk), [len(t.question.branches[i]) for i in t.picks]) for r in rows for t in r]
    return Made(decoder, config, step_config, mesh, graphdef, train, frozen, batch, shape.answers_per_seq, trees)


def draw(places: Any, quantize: str, norm_offset: float) -> Any:
    """Values for a model's state: weights and adapters around 0, norms around the identity."""
    import jax
    from flax import nnx

    from survey_jax.model.abstract import parameter_name

    def normal(key: Any, shape: tuple[int, ...], dtype: Any, mean: float) -> Any:
        return (mean + STD * jax.random.normal(key, shape, dtype)).astype(dtype)

    def codes(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        bounds = jax.numpy.iinfo(dtype)
        return jax.random.randint(key, shape, bounds.min, bounds.max, dtype)

    normal, codes = (jax.jit(f, static_argnums=(1, 2, *more)) for f, more in ((normal, (3,)), (codes, ())))
    result = []
    for number, (path, variable) in enumerate(nnx.to_flat_state(places)):  # one by one, to save memory
        name, like, key = parameter_name(path), variable.get_value(), jax.random.fold_in(jax.random.key(0), number)
        if jax.numpy.issubdtype(like.dtype, jax.numpy.integer):
            value = codes(key, like.shape, like.dtype)
        elif quantize and name.endswith("_scale"):
            value = jax.numpy.full(like.shape, SCALES[quantize], like.dtype)
        else:
            mean = 1 - norm_offset if name.endswith("norm") else float(name.endswith(".scalar"))
            value = normal(key, like.shape, like.dtype, mean)
        result.append((path, variable.replace(jax.device_put(value, like.sharding))))
    return nnx.from_flat_state(result)


def timed(step: Callable[[], Any], steps: int) -> float:
    """Median seconds of a step, which must wait until it is done; the first one is not counted."""
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def peak_flops(kind: str) -> float:
    """bfloat16 FLOP/s of a device by its name; 0 if unknown."""
    accelerator = by_kind(kind)
    return accelerator.flops if accelerator else 0.0


def device_peak(device: Any) -> int | None:
    """The most bytes that this process has held on a device so far; None where the platform does not tell (CPUs)."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")
