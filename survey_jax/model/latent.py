"""Attention that unfolds the keys and values of all heads from one short vector for each token.

It is the latent attention of DeepSeek-V2 (arXiv 2405.04434, section 2.1), written out: a trunk's keys and values are
those of any other model, and so is what follows. Some channels of a key are not unfolded; these alone are rotated, and
all heads share them. Here they come first in each head, as in other models of which a part is rotated.

Letters in shapes, beside those of block.py: S width of the short vector, R rotated channels.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from survey_jax.model.architecture import Latent

NORM_EPS = 1e-6  # of the short vectors' norms, whatever the others have
Apply = Callable[[Array, str], Array]  # (what it is applied to, the parameter's name) -> result


def queries(
    x: Float[Array, "B T D"], latent: Latent, width: int, project: Apply, normalise: Apply
) -> Float[Array, "B T H E"]:
    """The queries of all heads; `width`: of a head."""
    if latent.queries is not None:
        x = normalise(project(x, "q_down"), "q_down_norm")
    q = project(x, "q").reshape(*x.shape[:2], -1, width)
    return jnp.concatenate([q[..., -latent.turned :], q[..., : -latent.turned]], axis=-1)


def keys_and_values(
    x: Float[Array, "B T D"], latent: Latent, width: int, project: Apply, normalise: Apply
) -> tuple[Float[Array, "B T H E"], Float[Array, "B T H E"]]:
    """Keys, not rotated yet, and values of all heads; `width`: of a head."""
    short, turned = jnp.split(project(x, "k_down"), [latent.keys], axis=-1)
    still = width - latent.turned
    both = project(normalise(short, "k_down_norm"), "latent_kv").reshape(*x.shape[:2], -1, still + width)
    turned = jnp.broadcast_to(turned[:, :, None], (*both.shape[:3], latent.turned))
    return jnp.concatenate([turned, both[..., :still]], axis=-1), both[..., still:]
