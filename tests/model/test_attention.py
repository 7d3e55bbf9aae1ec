"""Attention and products against plain formulas under JAX's own differentiation."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from processes import printed, start
from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, ModelConfig
from survey_jax.model.attention import attend
from survey_jax.model.attention_kernels import attend_cudnn, attend_splash, splash_kernel, why_not_cudnn
from survey_jax.model.attention_mask import TreeShape, visible, visible_blocks, visible_parts
from survey_jax.model.matmul import product
from survey_jax.planning.architectures import read_architecture
from survey_jax.training.build import check_attention

DRAW = np.random.default_rng(0)
SHAPE = TreeShape(trunks=16, branch=8)


def tree_batch() -> dict[str, Array]:
    """Two rows of 48 tokens: trunks first, then branches; padding at the end."""
    rows = []
    for trunks, branches in (((5, 9), ((3, 8, 1), (4, 4))), ((11,), ((7, 7, 6, 2),))):
        trees = [t + 1 for t, n in enumerate(trunks) for _ in range(n)]
        positions = [i for n in trunks for i in range(n)]
        row = [(t, 0, p) for t, p in zip(trees, positions, strict=True)]
        for t, sizes in enumerate(branches):
            row += [(t + 1, b + 1, trunks[t] + i) for b, n in enumerate(sizes) for i in range(n)]
        rows.append(row + [(0, 0, 0)] * (48 - len(row)))
    array = np.array(rows, np.int32)
    return {name: jnp.asarray(array[..., i]) for i, name in enumerate(("trees", "branches", "positions"))}


def plain(q: Array, k: Array, v: Array, mask: Array, softcap: float | None) -> Array:
    """Softmax attention of H heads, keys and values repeated."""
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("bthe,bshe->bhts", q, k)
    scores = scores if softcap is None else softcap * jnp.tanh(scores / softcap)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9), axis=-1)
    return jnp.einsum("bhts,bshe->bthe", weights, v)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("parts", [False, True], ids=["dense", "two_part"])
def test_attention_and_its_gradient(window: int | None, softcap: float | None, parts: bool) -> None:
    batch = tree_batch()
    q, k, v, g = (jnp.asarray(DRAW.normal(size=(2, 48, n, 4)), jnp.float32) for n in (6, 2, 2, 6))
    real = (batch["trees"] > 0)[..., None, None]  # what padding gives is nobody's
    dense = visible(batch, window)
    masks = visible_parts(batch, window, SHAPE) if parts else (dense,)
    ours = jax.value_and_grad(lambda *x: jnp.sum(attend(*x, masks, softcap) * g * real), argnums=(0, 1, 2))
    expected = jax.value_and_grad(lambda *x: jnp.sum(plain(*x, dense, softcap) * g * real), argnums=(0, 1, 2))
    for a, b in zip(jax.tree.leaves(jax.jit(ours)(q, k, v)), jax.tree.leaves(expected(q, k, v)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("window", [None, 6])
def test_blocks_as_cudnn_gets_them(window: int | None) -> None:
    """The layout that cuDNN's kernel is given, computed by XLA: the same attention and gradient."""
    batch = tree_batch()
    q, k, v, g = (jnp.asarray(DRAW.normal(size=(2, 48, n, 4)), jnp.float32) for n in (6, 2, 2, 6))
    real = (batch["trees"] > 0)[..., None, None]
    mask, blocks = visible(batch, window), visible_blocks(batch, window, SHAPE)
    ours = jax.value_and_grad(lambda *x: jnp.sum(attend_cudnn(*x, blocks, "xla") * g * real), argnums=(0, 1, 2))
    expected = jax.value_and_grad(lambda *x: jnp.sum(plain(*x, mask, None) * g * real), argnums=(0, 1, 2))
    for a, b in zip(jax.tree.leaves(jax.jit(ours)(q, k, v)), jax.tree.leaves(expected(q, k, v)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def device(platform: str, kind: str, capability: str = "8.0", client: Any = None) -> Any:
    """A device that is not here."""
    return mock.create_autospec(
        jax.Device, instance=True, platform=platform, device_kind=kind, compute_capability=capability, client=client
    )


@pytest.mark.parametrize(
    ("head_width", "softcap", "dtype", "tokens", "capability", "message"),
    [
        (128, None, "bfloat16", 512, "8.0", None),
        (256, None, "bfloat16", 512, "9.0", None),
        (256, None, "bfloat16", 512, "8.0", "at most 128 channels"),
        (100, None, "bfloat16", 512, "9.0", "a multiple of 8"),
        (128, 50.0, "bfloat16", 512, "9.0", "cap scores"),
        (128, None, "float32", 512, "9.0", "needs config.model.dtype"),
        (128, None, "bfloat16", 333, "9.0", "even config.batch.seq_len, not 333"),
    ],
)
def test_what_cudnn_supports(
    head_width: int, softcap: float | None, dtype: str, tokens: int, capability: str, message: str | None
) -> None:
    cuda = SimpleNamespace(platform_version="cuda 12090")
    why = why_not_cudnn(head_width, softcap, dtype, tokens, device("gpu", "NVIDIA", capability, cuda))
    assert why is None if message is None else message in str(why)


@pytest.mark.parametrize(
    ("name", "platform", "tokens", "message"),
    [
        ("cudnn", "cpu", 512, "'cudnn': it needs an NVIDIA GPU, and this is cpu; choose two_part"),
        ("splash", "cpu", 512, "'splash': it needs a TPU, and this is cpu; choose two_part"),
        ("splash", "tpu", 500, "'splash': it needs config.batch.seq_len in multiples of 128, not 500"),
    ],
)
def test_a_back_end_is_refused_where_it_cannot_run(name: str, platform: str, tokens: int, message: str) -> None:
    config = Config(model=ModelConfig(attention=name, dtype="bfloat16"), batch=BatchConfig(seq_len=tokens))
    with pytest.raises(UserError, match=message):
        check_attention(config, read_architecture("SmolLM2-135M"), device(platform, platform))


def test_splash_is_accepted_on_tpus() -> None:
    config = Config(model=ModelConfig(attention="splash"), batch=BatchConfig(seq_len=512))
    check_attention(config, read_architecture("gemma-2-9b"), device("tpu", "TPU v5 lite"))


@pytest.mark.parametrize(("width", "softcap"), [(64, None), (96, None), (256, 50.0)])
def test_splash_lowers_for_tpus(width: int, softcap: float | None) -> None:
    """As far as can be seen without one: forward and both backward kernels reach the TPU's compiler."""
    x = jax.ShapeDtypeStruct((2, 256, 4, width), jnp.bfloat16)
    mask = jax.ShapeDtypeStruct((2, 256, 256), jnp.bool_)

    def loss(q: Array, k: Array, v: Array, mask: Array) -> Array:
        return attend_splash(q, k, v, splash_kernel(mask, softcap)).astype(jnp.float32).sum()

    exported = jax.export.export(jax.jit(jax.grad(loss, argnums=(0, 1, 2))), platforms=["tpu"])(x, x, x, mask)
    assert exported.mlir_module().count("@tpu_custom_call") == 3


def test_splash_on_a_mesh(tmp_path: Path) -> None:
    """Rows and heads over eight devices: the same attention and gradient as on one."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from survey_jax.model.attention_kernels import attend_splash, splash_kernel
from survey_jax.parallel.sharding import make_mesh
draw = np.random.default_rng(0)
q, k, v = (jnp.asarray(draw.normal(size=(4, 128, n, 8)), jnp.float32) for n in (4, 2, 2))
mask = jnp.asarray(np.tril(draw.random((4, 128, 128)) < 0.3))
def run(q, k, v):
    f = lambda q, k, v: jnp.sum(attend_splash(q, k, v, splash_kernel(mask, None, interpret=True)) ** 2)
    return jax.tree.leaves(jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(q, k, v))
one = run(q, k, v)
jax.set_mesh(make_mesh(2, 2, 2))
def same():
    for a, b in zip(one, run(q, k, v), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-5, atol=5e-5)  # processors add in other orders
same()
jax.set_mesh(make_mesh(1, 1, 8))  # more devices than heads
same()
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    assert [process.wait() for process in start(script, [], tmp_path / "log", 1, 8)] == [0], printed(tmp_path / "log")


def test_products_of_narrow_operands() -> None:
    """bfloat16 operands, float32 sums: the product of rounded numbers, and gradients of rounded gradients."""
    x, w, g = (jnp.asarray(DRAW.normal(size=size), jnp.float32) for size in ((2, 5, 32), (32, 7), (2, 5, 7)))

    def rounded(a: np.ndarray) -> np.ndarray:
        return np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64)

    y, backward = jax.vjp(lambda x, w: product(x, w, jnp.dtype(jnp.bfloat16)), x, w)
    assert y.dtype == jnp.float32
    d_x, d_w = backward(g)
    np.testing.assert_allclose(y, rounded(x) @ rounded(w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_x, rounded(g) @ rounded(w).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_w, np.einsum("bti,bto->io", rounded(x), rounded(g)), rtol=1e-5, atol=1e-5)
