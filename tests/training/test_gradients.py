"""Gradients of fine-tuning against PyTorch's: the same loss, written in torch, on the same weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx

from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import EXPERTS, PROJECTIONS
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.pretrained.safetensors_files import split_name
from survey_jax.pretrained.weight_names import Tensor
from survey_jax.training.step import StepConfig, gradients
from tiny_torch import SMALL, random_model

torch = pytest.importorskip("torch")

LETTERS = np.array([5, 17, 100, 42])
LENGTH, SCALE = 24, 0.7
FAMILIES = [
    *("llama3", "qwen2_window", "gemma3_text", "phi3_long", "granite", "ministral3", "cohere2", "qwen3_moe"),
    *("mistral4", "gemma4_text_shared", "gemma4_text_experts", "gpt_oss", "qwen3_5_text", "llama4_text_mixed"),
]


class Setup(NamedTuple):
    torch_model: Any
    pretrained: Pretrained
    batch: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=FAMILIES)
def setup(request, tmp_path_factory) -> Setup:
    return made(request.param, tmp_path_factory.mktemp(request.param))


def made(name: str, directory: Path) -> Setup:
    """Three prompts with 4, 3 and 4 options; one answer counts half."""
    model = random_model(name)
    model.save_pretrained(directory)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, SMALL["vocab_size"], (3, LENGTH), dtype=np.int32)  # torch gives padding (0) no gradient
    mask = np.ones((3, 1, 4), bool)
    mask[1, 0, 3] = False
    target = np.where(mask, rng.random(mask.shape), 0)
    batch = {
        "tokens": tokens,
        "positions": np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape),
        "trees": np.ones_like(tokens),
        "branches": np.zeros_like(tokens),
        "answer_index": np.full((3, 1), LENGTH - 1, np.int32),
        "option_mask": mask,
        "target": (target / target.sum(-1, keepdims=True)).astype(np.float32),
        "weight": np.array([[1.0], [0.5], [1.0]], np.float32),
    }
    return Setup(model, open_pretrained(str(directory)), batch)


def ours(s: Setup, trainable: type, rank: int, balance: float = 0.0) -> tuple[float, Any, Any]:
    """Loss, gradients and trained parameters, those flat by path."""
    config = s.pretrained.config
    abstract = abstract_model(config, rank, projections(s))
    mesh = make_mesh(1, 1, 1)
    model = load_model(s.pretrained, abstract, mesh, frozen_dtype="float32", trainable=trainable, seed=0)
    graphdef, params, frozen = nnx.split(model, trainable, ...)
    if rank:  # B starts at zero, and then the gradient of A is zero too
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), params)
    batch = {name: array[None] for name, array in s.batch.items()}
    step_config = StepConfig(config, Numerics(lora_scale=SCALE if rank else 0.0), balance=balance)
    loss, grads, _ = jax.jit(gradients, static_argnums=(0, 5))(graphdef, params, frozen, batch, LETTERS, step_config)
    return float(loss), flat(grads), flat(params)


def projections(s: Setup) -> tuple[str, ...]:
    """All that the model has."""
    return (*PROJECTIONS, *EXPERTS) if s.pretrained.config.experts else PROJECTIONS


def flat(state: Any) -> dict[str, np.ndarray]:
    return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def torch_loss(s: Setup, parameters: dict[str, Any]) -> Any:
    """Mean KL(target || softmax over the options)."""
    tokens = torch.tensor(s.batch["tokens"].astype(np.int64))
    logits = torch.func.functional_call(s.torch_model, parameters, (tokens,)).logits[:, -1, LETTERS]
    mask, target, weight = (torch.tensor(s.batch[name])[:, 0] for name in ("option_mask", "target", "weight"))
    log_p = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), -1).masked_fill(~mask, 0)
    kl = (torch.xlogy(target, target) - target * log_p).sum(-1)
    return (kl * weight).sum() / weight.sum()


def assert_close(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Every gradient to 1e-3 of its norm."""
    assert mine.keys() == theirs.keys()
    off = {n: np.linalg.norm(mine[n] - theirs[n]) / np.linalg.norm(theirs[n]) for n in mine}
    print(f"{len(off)} gradients; {max(off, key=off.__getitem__)} differs by {max(off.values()):.1e}")
    assert max(off.values()) < 1e-3, off


def in_memory(at: Tensor, ours: str, width: int) -> Tensor:
    """Where transformers has a parameter; it stacks experts, and fuses gate and up, when it loads them."""
    if at.name.count("{}") < 2 or "[" in at.name:
        return at
    kind = ours.removeprefix("blocks.expert_")
    rows = {"gate": (0, width), "up": (width, 2 * width), "down": None}[kind]
    name = "down_proj" if kind == "down" else "gate_up_proj"
    return Tensor(f"model.layers.{{}}.mlp.experts.{name}[{{}}]", transposed=True, rows=rows)


def test_full_fine_tuning(setup: Setup) -> None:
    loss, mine, _ = ours(setup, nnx.Param, rank=0)
    parameters = {name: p.detach().requires_grad_() for name, p in setup.torch_model.named_parameters()}
    reference = torch_loss(setup, parameters)
    reference.backward()

    def gradient(name: str) -> np.ndarray:
        whole, part = split_name(name)
        found = parameters[whole].grad.numpy()
        return found if part is None else found[part]

    def of_gpt_oss(ours: str) -> np.ndarray:
        """Experts [in, out], gate and up by turns."""
        kind, _, bias = ours.removeprefix("blocks.expert_").partition("_")
        name = ("down_proj" if kind == "down" else "gate_up_proj") + "_bias" * bool(bias)
        layers = range(setup.pretrained.config.layers)
        grads = [parameters[f"model.layers.{i}.mlp.experts.{name}"].grad.numpy() for i in layers]
        return np.stack(grads)[..., {"gate": slice(0, None, 2), "up": slice(1, None, 2)}.get(kind, slice(None))]

    def stored(ours: str) -> np.ndarray:
        if setup.pretrained.config.expert_biases and "expert_" in ours:
            return of_gpt_oss(ours)
        at = in_memory(setup.pretrained.weight_map[ours], ours, setup.pretrained.config.expert_width)
        grads = [gradient(name) for name in at.places(mine[ours].shape).values()]
        grads = [g[slice(*at.rows)] if at.rows else g for g in grads]
        grads = [g[:, slice(*at.columns)] if at.columns else g for g in grads]
        return np.reshape([g.T if at.transposed else g for g in grads], mine[ours].shape)

    assert loss == pytest.approx(reference.item(), rel=1e-4)
    assert_close(mine, {name: stored(name) for name in mine})


def parts(s: Setup, projection: str, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str, Any, bool]]:
    """Where torch has a projection of each layer, or of each expert of each layer.

    Yields the place on our leading axes, the name of torch's parameter, the index of the part of it, and whether that
    is [out, in].
    """
    kind = projection.rpartition("expert_")[2]
    if s.pretrained.config.expert_biases and kind != projection:  # gpt-oss: [in, out], gate and up by turns
        columns = {"gate": slice(0, None, 2), "up": slice(1, None, 2), "down": slice(None)}[kind]
        name = "down_proj" if kind == "down" else "gate_up_proj"
        for layer, expert in np.ndindex(shape[:2]):
            yield (layer, expert), f"model.layers.{layer}.mlp.experts.{name}", (expert, slice(None), columns), False
        return
    at = in_memory(s.pretrained.weight_map[projection], projection, s.pretrained.config.expert_width)
    for place, stored in at.places(shape).items():
        name, expert = split_name(stored)
        part = [slice(*(span or (None, None))) for span in (at.rows, at.columns)]
        yield place, name, tuple(part) if expert is None else (expert, *part), at.transposed


def test_lora(setup: Setup) -> None:
    """In torch: weight + scale * (A B)^T, of the part of a fused weight, or of an expert, that is the projection."""
    loss, mine, params = ours(setup, LoraParam, rank=3)
    adapters = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    parameters = {name: p.detach().clone() for name, p in setup.torch_model.named_parameters()}
    for projection in {name.rpartition("_lora_")[0] for name in adapters}:
        for place, name, index, transposed in parts(setup, projection, params[f"{projection}_lora_a"].shape):
            a, b = (adapters[f"{projection}_lora_{x}"][place] for x in "ab")
            update = torch.zeros_like(parameters[name])
            update[index] = SCALE * ((a @ b).T if transposed else a @ b)
            parameters[name] = parameters[name] + update
    reference = torch_loss(setup, parameters)
    reference.backward()
    assert loss == pytest.approx(reference.item(), rel=1e-4)
    assert_close(mine, {name: value.grad.numpy() for name, value in adapters.items()})


def test_load_balancing(tmp_path: Path) -> None:
    """The routers' gradient with transformers' own loss added, over both layers."""
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    s, weight = made("mixtral", tmp_path), 0.5
    loss, mine, _ = ours(s, nnx.Param, rank=0, balance=weight)
    parameters = {name: p.detach().requires_grad_() for name, p in s.torch_model.named_parameters()}
    tokens = torch.tensor(s.batch["tokens"].astype(np.int64))
    out = torch.func.functional_call(s.torch_model, parameters, (tokens,), {"output_router_logits": True})
    c = s.pretrained.config
    uneven = mixtral.load_balancing_loss_func(out.router_logits, c.experts, c.experts_used)
    reference = torch_loss(s, parameters) + weight * uneven
    reference.backward()
    routers = [p.grad.numpy().T for name, p in parameters.items() if name.endswith("gate.weight")]
    assert uneven.item() > c.experts_used
    assert loss == pytest.approx(reference.item(), rel=1e-4)
    assert_close({"router": mine["blocks.router"]}, {"router": np.stack(routers)})
