"""Analytic FLOPs against XLA's own count: of one layer, since XLA counts the body of a loop once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import tiny
from survey_jax.common.errors import UserError
from survey_jax.inputs.trees import BatchShape, empty_batch
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import PROJECTIONS
from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.block import Numerics
from survey_jax.model.flops import attention_pairs, step_flops
from survey_jax.model.lora import LoraParam
from survey_jax.parallel import accelerators
from survey_jax.pretrained.families import decoder_config
from survey_jax.training.step import StepConfig, gradients, predict_step

SIZES = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
}
SHAPE = BatchShape(batch_size=2, seq_len=512, answers_per_seq=4, trunk_len=32, options=5)
TREES = TreeShape(trunks=32, branch=16)


def analytic(remat: str, rank: int, projections: tuple[str, ...], trees: TreeShape | None = None):
    c, _ = decoder_config(SIZES, "tiny")
    sizes = {
        "batch_size": SHAPE.batch_size,
        "seq_len": SHAPE.seq_len,
        "answers_per_seq": SHAPE.answers_per_seq,
        "options": SHAPE.options,
    }
    return step_flops(c, **sizes, lora_rank=rank, projections=projections, remat=remat, tree_shape=trees)


def counted(remat: str, rank: int, projections: tuple[str, ...], trees: TreeShape | None, training: bool) -> float:
    """What XLA counts in the gradient (or the prediction) that training (or evaluation) computes.

    Of three layers it counts one. A single one would lose what the first layer of a loop computes in vain: the gradient
    of the frozen embedding's output.
    """
    c, _ = decoder_config(SIZES | {"num_hidden_layers": 3}, "tiny")
    model = abstract_model(c, rank, projections)
    graphdef, params, frozen = nnx.split(model, LoraParam if rank else nnx.Param, ...)
    batch = {k: jnp.asarray(v) for k, v in empty_batch(SHAPE).items() if k != "prompt"}
    step_config = StepConfig(c, Numerics(lora_scale=float(rank > 0)), remat=remat, tree_shape=trees)
    letters = jnp.arange(SHAPE.options)
    if training:
        batch = {k: v[None] for k, v in batch.items()}
        step = functools.partial(gradients, graphdef, step_config=step_config)
    else:
        step = functools.partial(predict_step, graphdef, step_config=step_config)
    return jax.jit(step).lower(params, frozen, batch, letters).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    ("remat", "rank", "projections"),
    [("none", 0, ()), ("full", 0, ()), ("dots", 8, PROJECTIONS), ("full", 8, PROJECTIONS), ("dots", 8, ("q", "v"))],
)
def test_training_step_is_what_xla_counts(remat: str, rank: int, projections: tuple[str, ...]) -> None:
    expected = counted(remat, rank, projections, None, training=True)
    flops = analytic(remat, rank, projections).total
    print(f"{remat} {rank} {projections}: {flops / expected:.4f} of XLA's count")
    assert flops == pytest.approx(expected, rel=0.04)  # norms, softmax, rotary embedding


def test_two_part_attention_and_evaluation() -> None:
    expected = counted("none", 8, PROJECTIONS, TREES, training=True)
    assert analytic("none", 8, PROJECTIONS, TREES).total == pytest.approx(expected, rel=0.04)
    expected = counted("none", 8, PROJECTIONS, None, training=False)
    assert analytic("none", 8, PROJECTIONS).forward == pytest.approx(expected, rel=0.04)


def test_splash_is_counted_by_blocks_up_to_the_diagonal() -> None:
    blocks = sum(128 * 128 for query in range(4) for key in range(4) if key <= query)
    assert attention_pairs(512, TreeShape(512, 128, "splash")) == blocks


@pytest.mark.parametrize("family", ["gemma4", "gpt_oss", "qwen3_5"])
@pytest.mark.parametrize("projections", [("q", "v"), ("q", "k", "v", "o")])
def test_every_adapter_is_counted(family: str, projections: tuple[str, ...]) -> None:
    """One operation for each of its parameters and each token in the forward pass, times two."""
    c, _ = decoder_config(tiny.SIZES | tiny.OTHERS[family], "tiny")
    sizes = {"batch_size": 1, "seq_len": 1, "answers_per_seq": 0, "options": 5, "remat": "none"}
    forward = [step_flops(c, **sizes, lora_rank=rank, projections=projections).forward for rank in (0, 4)]
    adapters = nnx.state(abstract_model(c, 4, projections), LoraParam)
    assert forward[1] - forward[0] == 2 * sum(x.size for x in jax.tree.leaves(adapters))


def test_layers_and_rows_multiply() -> None:
    c, _ = decoder_config(SIZES | {"num_hidden_layers": 7}, "tiny")
    one = dataclasses.replace(c, layers=1, layer_kinds=(0,))
    sizes = {"seq_len": 64, "answers_per_seq": 0, "options": 5, "lora_rank": 0, "projections": (), "remat": "full"}
    assert step_flops(c, batch_size=3, **sizes).total == 21 * step_flops(one, batch_size=1, **sizes).total


def test_accelerators_are_found_by_what_jax_reports() -> None:
    found = {kind: a.name for a in accelerators.ACCELERATORS for kind in a.kinds}
    assert len(found) == sum(len(a.kinds) for a in accelerators.ACCELERATORS)  # no kind is claimed twice
    for kind, name in {"NVIDIA H100 80GB HBM3": "h100", "TPU v5 lite": "v5e", "TPU v5": "v5p"}.items():
        assert accelerators.by_kind(kind) is accelerators.by_name(name)
    assert accelerators.by_kind("cpu") is None
    with pytest.raises(UserError, match=r"--chip=h1000: unknown; choose one of a100-40gb"):
        accelerators.by_name("h1000")
