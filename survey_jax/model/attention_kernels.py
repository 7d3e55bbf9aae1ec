"""Fused attention kernels of accelerators, which store no scores.

`cudnn` (NVIDIA) treats each block of S queries as a sequence of its own, with P + 2S keys. `splash` (TPU) takes whole
sequences and skips pairs of query and key blocks in which nothing is visible.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from survey_jax.model.attention_mask import SPLASH_BLOCK, and_before, in_blocks
from survey_jax.parallel.sharding import ROWS

ATTENDED = "attended"  # the name by which `jax.checkpoint` saves what attention's backward pass needs


def attend_cudnn(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    mask: Bool[Array, "B N S P_2S"],
    implementation: Literal["xla", "cudnn"] = "cudnn",
) -> Float[Array, "B T H E"]:
    """Softmax attention with grouped queries under a `visible_blocks` mask. The queries must be scaled already."""
    rows, count, size, keys = mask.shape

    def with_trunks(x: Array) -> Array:
        trunks = jnp.broadcast_to(x[:, None, : keys - 2 * size], (rows, count, keys - 2 * size, *x.shape[2:]))
        return jnp.concatenate([trunks, and_before(in_blocks(x, size))], axis=2).reshape(
            rows * count, keys, *x.shape[2:]
        )

    out = jax.nn.dot_product_attention(
        q.reshape(rows * count, size, *q.shape[2:]),
        with_trunks(k),
        with_trunks(v),
        mask=mask.reshape(rows * count, 1, size, keys),
        scale=1.0,
        implementation=implementation,
    )
    return checkpoint_name(out.reshape(q.shape), ATTENDED)


def splash_kernel(mask: Bool[Array, "B T T"], softcap: float | None, interpret: bool = False) -> Any:
    """The kernels of B sequences for `attend_splash`, made once for all layers.

    Args:
      mask: from `visible`.
      interpret: emulate the kernel on any device, for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    def one(mask: Array) -> Any:
        return splash.make_splash_mha(
            mask[None],  # the same for all heads
            head_shards=1,
            q_seq_shards=1,
            attn_logits_soft_cap=softcap,
            residual_checkpoint_name=ATTENDED,
            interpret=interpret,
        )

    padding_too = mask | jnp.eye(mask.shape[-1], dtype=bool)  # a query that sees nothing would give NaN
    return jax.vmap(one)(padding_too)


def attend_splash(
    q: Float[Array, "B T H E"], k: Float[Array, "B T K E"], v: Float[Array, "B T K E"], kernel: Any
) -> Float[Array, "B T H E"]:
    """Softmax attention with grouped queries by a `splash_kernel`. The queries must be scaled already."""

    def row(q: Array, k: Array, v: Array, kernel: Any) -> Array:
        # jax.jit turned this constant into an array, but the kernel uses it in an `if`.
        kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
        return jnp.swapaxes(kernel(*(jnp.swapaxes(x, 0, 1) for x in (q, k, v))), 0, 1)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.vmap(row)(q, k, v, kernel)
    heads = P(*ROWS, None, "tensor" if k.shape[2] % mesh.shape["tensor"] == 0 else None)
    on_each = jax.shard_map(jax.vmap(row), in_specs=(heads, heads, heads, ROWS), out_specs=heads, check_vma=False)
    return on_each(q, k, v, kernel)


def why_not_cudnn(head_width: int, softcap: float | None, dtype: str, seq_len: int, device: jax.Device) -> str | None:
    """Why cuDNN's kernel cannot compute a model's attention, as the end of a message; None if it can."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return f"needs an NVIDIA GPU, and this is {device.device_kind}"
    most = 256 if float(device.compute_capability) >= 9 else 128
    if head_width > most or head_width % 8:
        return f"takes heads of at most {most} channels, a multiple of 8, and this model's have {head_width}"
    if softcap is not None:
        return "cannot cap scores, as this model does"
    if dtype != "bfloat16":
        return f"needs config.model.dtype = 'bfloat16', not {dtype!r}"
    return f"needs an even config.batch.seq_len, not {seq_len}" if seq_len % 2 else None


def why_not_splash(seq_len: int, device: jax.Device) -> str | None:
    """Why the splash kernel cannot compute attention, as the end of a message; None if it can."""
    if device.platform != "tpu":
        return f"needs a TPU, and this is {device.device_kind}"
    if seq_len % SPLASH_BLOCK:
        return f"needs config.batch.seq_len in multiples of {SPLASH_BLOCK}, not {seq_len}"
    return None
