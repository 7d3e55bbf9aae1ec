"""The optimizer: AdamW after clipping, with warm-up and decay."""

from typing import Any

import jax
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from survey_jax.config import OptimConfig
from survey_jax.parallel.sharding import parameter_shardings


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


def learning_rate(c: OptimConfig, opt_state: optax.OptState) -> jax.Array:
    """The rate of the next update."""
    return make_schedule(c)(steps_done(opt_state))


def steps_done(opt_state: optax.OptState) -> jax.Array:
    """How many updates there have been."""
    _, count = optax.tree_utils.tree_get_all_with_path(opt_state, "count")[0]  # AdamW and its schedule count alike
    return count


def abstract_optimizer(c: OptimConfig, params: nnx.State, mesh: Mesh) -> Any:
    """Optimizer state as `jax.ShapeDtypeStruct`s: moments have their parameters' layout, the rest is replicated."""
    optimizer, replicated = make_optimizer(c), NamedSharding(mesh, P())

    def with_sharding(x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return optax.tree_utils.tree_map_params(
        optimizer,
        with_sharding,
        jax.eval_shape(optimizer.init, params),
        parameter_shardings(params, mesh),
        transform_non_params=lambda x: with_sharding(x, replicated),
    )


def init_optimizer(c: OptimConfig, params: nnx.State, mesh: Mesh) -> Any:
    """Optimizer state, created in the layout of `abstract_optimizer`."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_optimizer(c, params, mesh))
    return jax.jit(make_optimizer(c).init, out_shardings=shardings)(params)
