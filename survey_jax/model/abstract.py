"""Models without values: shapes, types and layouts of all parameters."""

from typing import Any

import jax
from flax import nnx

from survey_jax.model.decoder import PROJECTIONS, Decoder, DecoderConfig
from survey_jax.model.lora import add_lora
from survey_jax.model.quantize import quantize_shapes
from survey_jax.parallel.sharding import parameter_shardings


def abstract_model(config: DecoderConfig, lora_rank: int, projections: tuple[str, ...], quantize: str = "") -> Decoder:
    """The model's shapes and axes without memory; with adapters if lora_rank > 0, quantised if `quantize` says how."""

    def build() -> Decoder:
        model = Decoder(config)
        if lora_rank:
            add_lora(model, lora_rank, projections)
        if quantize:
            quantize_shapes(model.blocks, PROJECTIONS, quantize)
        return model

    return nnx.eval_shape(build)


def laid_out(state: nnx.State, mesh: jax.sharding.Mesh, frozen_dtype: str, trainable: type) -> nnx.State:
    """An abstract state as it will be in memory: `jax.ShapeDtypeStruct`s with their layouts; see `load_model`."""
    variables, shardings = _by_name(state), parameter_shardings(state, mesh)

    def one(path: tuple[Any, ...], variable: Any) -> Any:
        name, sharding = _name(path), variable.get_value()
        quantised = f"{name}_scale" in variables or name.endswith("_scale")
        kept = variables[name].dtype if quantised else frozen_dtype
        dtype = "float32" if isinstance(variable, trainable) and not quantised else kept
        return variable.replace(jax.ShapeDtypeStruct(variables[name].shape, dtype, sharding=sharding))

    return nnx.from_flat_state([(path, one(path, variable)) for path, variable in nnx.to_flat_state(shardings)])


def _by_name(state: nnx.State) -> dict[str, Any]:
    return {_name(path): variable for path, variable in nnx.to_flat_state(state)}


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
