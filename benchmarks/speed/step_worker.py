"""A training step on random weights and tokens, for benchmarks.gpu and benchmarks.growth.

`python -m benchmarks.speed.step_worker SPECIFICATION` is not for people. A specification (JSON) has "model", "side" (an
attention back end, or "torch"), "dtype", "rows", "row_tokens", "groups", "trunk" (tokens, least and most), "remat" and
"steps". Prints a line of JSON: "device", "peak_flops" (0 if unknown), "seconds" (median step); "examples", "tokens"
(padding included) and "flops" (of tokens really there, each once) of a step; "memory" (bytes: of ours as
compiled, of PyTorch the GPU's peak, on CPUs the process's), "compiled_in", "loss" of the first step; of ours also
"parameters" (in products with weights), "computed" (all FLOPs of a step) and "leak".
"""

import dataclasses
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.speed import speed_data
from benchmarks.speed.speed_flops import unique_flops
from benchmarks.speed.speed_worker import memory
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import BatchShape, Question, cut, pack, to_batch, tree_shape, trunk_room
from survey_jax.model.architecture import DecoderConfig
from survey_jax.model.flops import projection_widths, step_flops, weights_used
from survey_jax.parallel.accelerators import ACCELERATORS
from survey_jax.planning.architectures import known_architectures, read_architecture
from survey_jax.survey.table import Answer

JOB = speed_data.JOBS["lora_qv"]
OPTIONS = 6
BRANCH = (8, 16)  # tokens, least and most
CLOSE = 0.02  # relative, of bfloat16 losses


def main() -> None:
    spec = json.loads(sys.argv[1])
    decoder = read_architecture(spec["model"])
    print(json.dumps(torch_side(spec, decoder) if spec["side"] == "torch" else jax_side(spec, decoder)))


def questions(spec: dict[str, Any], decoder: DecoderConfig) -> list[Question]:
    """Of random tokens; enough for a step."""
    draw = np.random.default_rng(0)

    def tokens(bounds: Sequence[int]) -> np.ndarray:
        return draw.integers(0, decoder.vocab_size, draw.integers(*bounds)).astype(np.int32)

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


def timed(step: Callable[[], Any], steps: int) -> float:
    """Median seconds of a step, which must wait until it is done."""
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def peak_flops(kind: str) -> float:
    """bfloat16 FLOP/s of a device by its name; 0 if unknown."""
    return next((a.flops for a in ACCELERATORS if kind in a.kinds), 0.0)


def jax_side(spec: dict[str, Any], decoder: DecoderConfig) -> dict[str, Any]:
    import jax
    from flax import nnx

    from survey_jax.config import BatchConfig, Config, LoraConfig, ModelConfig
    from survey_jax.model.abstract import abstract_arrays, abstract_model
    from survey_jax.model.lora import LoraParam
    from survey_jax.parallel.sharding import make_mesh
    from survey_jax.training.build import check_attention, make_step_config
    from survey_jax.training.optimizer import init_optimizer
    from survey_jax.training.step import TrainState, compiled_train_step, option_logits

    config = Config(
        model=ModelConfig(weights="random", dtype=spec["dtype"], attention=spec["side"], remat=spec["remat"]),
        lora=LoraConfig(rank=JOB.rank, projections=JOB.projections),
        batch=BatchConfig(batch_size=spec["rows"], seq_len=spec["row_tokens"], groups_per_tree=spec["groups"]),
    )
    device, mesh = jax.devices()[0], make_mesh(1, 1, 1)
    jax.set_mesh(mesh)
    check_attention(config, decoder, device)
    asked, tokens = questions(spec, decoder), spec["row_tokens"]
    room = trunk_room(asked, tokens, spec["groups"])
    shape = BatchShape(spec["rows"], tokens, tokens // BRANCH[0], room, OPTIONS)
    rows = pack([t for q in asked for t in cut(q, range(spec["groups"]), spec["groups"], shape)], shape)[
        : shape.batch_size
    ]
    host = to_batch(rows, prompts(asked), shape)
    step_config = make_step_config(config, decoder)
    if spec["side"] != "dense":
        step_config = dataclasses.replace(step_config, tree_shape=tree_shape(asked, shape, spec["side"]))
    graphdef, state = nnx.split(abstract_model(decoder, JOB.rank, JOB.projections))
    places = abstract_arrays(state, mesh, spec["dtype"], LoraParam)

    draw = jax.jit(lambda key, shape, dtype: jax.random.normal(key, shape, dtype) * 0.02, static_argnums=(1, 2))
    leaves, tree = jax.tree.flatten(places)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [draw(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]  # one by one, to save memory
    model = nnx.merge(graphdef, jax.tree.unflatten(tree, drawn))
    graphdef, train, frozen = nnx.split(model, LoraParam, ...)  # type: ignore[misc]  # the stubs take no `...`
    state = TrainState(train, init_optimizer(config.optim, train, mesh))
    letters = jax.numpy.arange(OPTIONS)
    host = {k: v for k, v in host.items() if k != "prompt"}

    @jax.jit
    def logits(train: Any, frozen: Any, batch: dict[str, Any]) -> Any:
        return option_logits(nnx.merge(graphdef, train, frozen), batch, letters, step_config)

    leak = _leak(functools.partial(logits, train, frozen), host, decoder)
    batch = jax.device_put({k: v[None] for k, v in host.items()})
    step = compiled_train_step(graphdef, step_config, config.optim, state)
    begin = time.perf_counter()
    compiled = step.lower(state, frozen, batch, letters).compile()
    compiled_in, sizes = time.perf_counter() - begin, compiled.memory_analysis()
    losses = []

    def once() -> None:
        nonlocal state
        state, measured = compiled(state, frozen, batch, letters)
        losses.append(float(measured["loss"]))

    seconds = timed(once, spec["steps"])
    computed = step_flops(
        decoder,
        batch_size=spec["rows"],
        seq_len=tokens,
        answers_per_seq=shape.answers_per_seq,
        options=OPTIONS,
        lora_rank=JOB.rank,
        projections=JOB.projections,
        remat=spec["remat"],
        tree_shape=step_config.tree_shape,
    )
    trees = [(len(t.question.trunk), [len(t.question.branches[i]) for i in t.picks]) for r in rows for t in r]
    return {
        "device": device.device_kind,
        "peak_flops": peak_flops(device.device_kind),
        "seconds": seconds,
        "examples": int((host["weight"] > 0).sum()),
        "tokens": spec["rows"] * tokens,
        "flops": unique_flops(decoder, trees, JOB, OPTIONS),
        "parameters": weights_used(projection_widths(decoder)),
        "computed": computed.total,
        "memory": sizes.argument_size_in_bytes
        + sizes.temp_size_in_bytes
        + max(0, sizes.output_size_in_bytes - sizes.alias_size_in_bytes),
        "compiled_in": compiled_in,
        "loss": losses[0],
        "leak": leak,
    }


def _leak(
    logits: Callable[[dict[str, np.ndarray]], Any], batch: dict[str, np.ndarray], decoder: DecoderConfig
) -> float:
    """How far other answers' logits move when one branch's tokens change, [0, infinity); must be 0.

    Raises:
      ValueError: the branch's own answer does not move.
    """
    before = np.asarray(logits(batch))
    own = (batch["trees"][0] == 1) & (batch["branches"][0] == 1)
    tokens = batch["tokens"].copy()
    tokens[0, own] = (tokens[0, own] + 1) % decoder.vocab_size
    moved = np.abs(np.asarray(logits(batch | {"tokens": tokens})) - before).max(axis=-1)
    answers = own[batch["answer_index"]] & (np.arange(len(moved)) == 0)[:, None]
    if not moved[answers].max() > 0:
        raise ValueError("a branch's answer does not go by its tokens")
    return float(moved[~answers & (batch["weight"] > 0)].max())


def disagreeing(results: list[dict[str, Any]]) -> list[str]:
    """Where a back end computes something else than the model's first one, or where branches see one another."""
    wrong, losses = [], {}
    for r in results:
        if "failed" in r or r["side"] == "torch":  # whose random weights are others
            continue
        first = losses.setdefault(r["model"], r["loss"])
        if abs(r["loss"] - first) > CLOSE * abs(first):
            wrong.append(f"{r['model']}, {r['side']}: loss {r['loss']:.5f} instead of {first:.5f}")
        if r["leak"] > 0:
            wrong.append(f"{r['model']}, {r['side']}: a branch sees another (its answer moved by {r['leak']:.2g})")
    return wrong


def torch_side(spec: dict[str, Any], decoder: DecoderConfig) -> dict[str, Any]:
    import torch
    import transformers

    from benchmarks.speed.torch_recipes import CLIP, LR, with_adapters

    device = "cuda" if torch.cuda.is_available() else "cpu"
    entry = next(e for e in known_architectures() if any(spec["model"] == i.split("/")[-1] for i in e["ids"]))
    settings = transformers.AutoConfig.for_model(**entry["config"])
    asked = questions(spec, decoder)
    everything = sorted(prompts(asked), key=lambda p: len(p.tokens))
    mean = np.mean([len(p.tokens) for p in everything])
    count = max(1, int(spec["rows"] * spec["row_tokens"] / mean))  # as many tokens as ours
    middle = len(everything) // 2
    chosen = everything[max(0, middle - count // 2) :][:count]
    with torch.device(device):
        causal = transformers.AutoModelForCausalLM.from_config(
            settings, dtype=getattr(torch, spec["dtype"]), attn_implementation="sdpa"
        )
    causal.requires_grad_(False)
    causal = with_adapters(causal, JOB).to(device).train()
    trained = [p for p in causal.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    inner = getattr(causal.model, "language_model", causal.model)
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=True)
    lengths = torch.tensor([len(p.tokens) for p in chosen])
    tokens = torch.zeros((len(chosen), int(lengths.max())), dtype=torch.long)
    for line, prompt in zip(tokens, chosen, strict=True):
        line[: len(prompt.tokens)] = torch.from_numpy(prompt.tokens)
    tokens, at = tokens.to(device), (torch.arange(len(chosen), device=device), (lengths - 1).to(device))
    target = torch.tensor([p.target for p in chosen], device=device)
    losses = []

    def once() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=spec["dtype"] == "bfloat16"):
            hidden = inner(input_ids=tokens, use_cache=False).last_hidden_state[at]
            logits = torch.nn.functional.linear(hidden, causal.lm_head.weight[:OPTIONS])
        log_shares = logits.float().log_softmax(-1)
        loss = (torch.special.xlogy(target, target) - target * log_shares).sum() / len(chosen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(once, spec["steps"])
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "device": name,
        "peak_flops": peak_flops(name),
        "seconds": seconds,
        "examples": len(chosen),
        "tokens": tokens.numel(),
        "flops": unique_flops(decoder, [(int(n), []) for n in lengths], JOB, OPTIONS),
        "memory": torch.cuda.max_memory_allocated() if device == "cuda" else memory("VmHWM"),
        "compiled_in": 0.0,
        "loss": losses[0],
    }


if __name__ == "__main__":
    main()
