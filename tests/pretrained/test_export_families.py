"""Every family goes out as it came in: adapters on a tiny random model, merged and as PEFT, loaded by transformers."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import EXPERTS, PROJECTIONS
from survey_jax.model.block import Numerics
from survey_jax.model.decoder import decode, token_logits
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.export import write_merged, write_metadata_files
from survey_jax.pretrained.load import load_model, unwritable
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.pretrained.peft_format import write_adapter
from tiny_torch import CONFIGS, SMALL, random_model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

RANK, SCALE = 2, 1.5
LETTERS = np.arange(30, 40)
TOKENS = np.random.default_rng(0).integers(0, SMALL["vocab_size"], (3, 30), dtype=np.int32)
# One setting a model type; the others of it differ in nothing that weights are named or laid out by.
FAMILIES = list({config().model_type: name for name, config in reversed(CONFIGS.items())}.values())
FAMILIES += ["gemma4_text_shared", "gemma4_text_experts", "llama4_text_interleaved"]  # but these do


def adapted(pretrained: Pretrained, experts: tuple[str, ...]) -> tuple[Any, dict[str, np.ndarray]]:
    """Our model with random adapters on all projections and on these of experts, and these by name."""
    abstract = abstract_model(pretrained.config, RANK, (*PROJECTIONS, *experts))
    mesh = make_mesh(1, 1, -1)
    model = load_model(pretrained, abstract, mesh, frozen_dtype="float32", trainable=LoraParam, seed=0)
    graphdef, train, frozen = nnx.split(model, LoraParam, ...)
    rng = np.random.default_rng(1)
    train = jax.tree.map(lambda x: jax.numpy.asarray(rng.normal(0, 0.3, x.shape), "float32"), train)
    trained = {".".join(map(str, path)): np.asarray(v.get_value()) for path, v in nnx.to_flat_state(train)}
    return nnx.merge(graphdef, train, frozen), trained


def ours(model: Any, pretrained: Pretrained) -> np.ndarray:
    """Distributions over LETTERS at every position, [3, 30, 10]."""
    batch = {
        "tokens": TOKENS,
        "positions": np.broadcast_to(np.arange(TOKENS.shape[1], dtype=np.int32), TOKENS.shape),
        "trees": np.ones_like(TOKENS),
        "branches": np.zeros_like(TOKENS),
    }

    def run(model: Any) -> jax.Array:
        arrays = jax.tree.map(jnp.asarray, batch)
        hidden, _ = decode(model, arrays, pretrained.config, numerics=Numerics(lora_scale=SCALE))
        return token_logits(model, hidden, jnp.asarray(LETTERS), pretrained.config)

    return softmax(np.asarray(jax.jit(run)(model)), axis=-1)


def theirs(model: Any) -> np.ndarray:
    with torch.no_grad():
        logits = model.eval()(torch.tensor(TOKENS.astype(np.int64))).logits
    return softmax(logits[..., LETTERS.tolist()].double().numpy(), axis=-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_and_peft_predict_as_we_do(name: str, tmp_path: Path) -> None:
    base, merged, adapter = tmp_path / "base", tmp_path / "merged", tmp_path / "adapter"
    kind = type(reference := random_model(name))
    reference.save_pretrained(base)
    pretrained = open_pretrained(str(base))
    experts = EXPERTS if pretrained.config.experts and not unwritable(pretrained) else ()
    model, trained = adapted(pretrained, experts)
    expected = ours(model, pretrained)
    assert np.abs(expected - theirs(reference)).max() > 5e-3  # the adapters do something

    merged.mkdir()
    write_metadata_files(pretrained, merged)
    write_merged(pretrained, trained, SCALE, merged)
    loaded = kind.from_pretrained(merged, attn_implementation="eager", dtype="float32")
    assert np.abs(expected - theirs(loaded)).max() < 1e-5

    adapter.mkdir()
    write_adapter(pretrained, trained, SCALE, adapter, str(base), None)
    loaded = peft.PeftModel.from_pretrained(reference, adapter)
    assert np.abs(expected - theirs(loaded)).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "experts"),
    [("gpt_oss", EXPERTS), ("gpt_oss", ("expert_up",)), ("mixtral", ("expert_down", "expert_gate"))],
)
def test_adapters_of_some_projections_of_experts_as_peft(name: str, experts: tuple[str, ...], tmp_path: Path) -> None:
    """Gate and up of gpt-oss take turns in one parameter, and cannot be merged. One of two that are fused; or both."""
    (reference := random_model(name)).save_pretrained(tmp_path / "base")
    pretrained = open_pretrained(str(tmp_path / "base"))
    model, trained = adapted(pretrained, experts)
    expected = ours(model, pretrained)
    plain, _ = adapted(pretrained, ())
    assert np.abs(expected - ours(plain, pretrained)).max() > 1e-3  # those of the experts, too
    (tmp_path / "adapter").mkdir()
    write_adapter(pretrained, trained, SCALE, tmp_path / "adapter", str(tmp_path / "base"), None)
    loaded = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter")
    assert np.abs(expected - theirs(loaded)).max() < 1e-5
    if name == "gpt_oss":
        of_experts = {n: a for n, a in trained.items() if "expert_up" in n}
        with pytest.raises(UserError, match=r"blocks\.expert_up was trained, and is stored in parts of a tensor"):
            write_merged(pretrained, of_experts, SCALE, tmp_path / "adapter")
