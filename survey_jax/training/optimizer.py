"""The optimizer: AdamW after clipping, with warm-up and decay."""

from typing import Any

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from survey_jax.config import OptimConfig
from survey_jax.parallel.sharding import optimizer_shardings, parameter_shardings


def make_schedule(c: OptimConfig) -> optax.Schedule:
    """Linear warm-up to the peak, then as configured; step -> learning rate."""
    rest = max(1, c.steps - c.warmup)
    after = {
        "cosine": optax.cosine_decay_schedule(c.lr, rest, alpha=c.lr_end),
        "linear": optax.linear_schedule(c.lr, c.lr * c.lr_end, rest),
        "constant": optax.constant_schedule(c.lr),
    }[c.schedule]
    # The first step already learns: warm-up reaches the peak at step `warmup`, starting from lr / (warmup + 1).
    warmup = optax.linear_schedule(c.lr / (c.warmup + 1), c.lr, c.warmup)
    return optax.join_schedules([warmup, after], [c.warmup])


def make_optimizer(c: OptimConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) after clipping by global norm."""
    return optax.chain(
        optax.clip_by_global_norm(c.clip_norm),
        optax.adamw(make_schedule(c), b1=c.b1, b2=c.b2, weight_decay=c.weight_decay),
    )


def abstract_optimizer(optimizer: optax.GradientTransformation, params: nnx.State, mesh: Mesh) -> Any:
    """Optimizer state as `jax.ShapeDtypeStruct`s, in the layout of the parameters it mirrors."""
    abstract = jax.eval_shape(optimizer.init, params)
    shardings = optimizer_shardings(abstract, params, parameter_shardings(params, mesh), mesh)
    return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), abstract, shardings)


def init_optimizer(optimizer: optax.GradientTransformation, params: nnx.State, mesh: Mesh) -> Any:
    """Optimizer state, born in the layout of the parameters it mirrors."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_optimizer(optimizer, params, mesh))
    return jax.jit(optimizer.init, out_shardings=shardings)(params)
