"""Models without values: the shape, dtype and sharding of every parameter."""

from typing import Any

import jax
from flax import nnx

from survey_jax.model.architecture import PROJECTIONS, REMEMBERING, DecoderConfig
from survey_jax.model.block import Exact
from survey_jax.model.decoder import Decoder, blocks_of
from survey_jax.model.lora import add_gain, add_lora
from survey_jax.model.quantize import quantize_shapes
from survey_jax.parallel.sharding import parameter_shardings


def abstract_model(
    config: DecoderConfig, lora_rank: int, projections: tuple[str, ...], quantize: str = "", prior: bool = False
) -> Decoder:
    """A model whose parameters have shapes and logical axes, but no memory.

    Args:
      lora_rank: the rank of the adapters on `projections`; 0: no adapters.
      quantize: how projections are stored, a key of `quantize.KINDS`; "": as plain numbers.
      prior: whether predictions start from a prior, so that the model's own logits have a trained gain.
    """

    def build() -> Decoder:
        model = Decoder(config)
        if lora_rank:
            add_lora(model, lora_rank, projections)
        if prior:
            add_gain(model)
        if quantize:
            for block in blocks_of(model):
                there = [name for name in (*PROJECTIONS, *REMEMBERING) if hasattr(block, name)]
                quantize_shapes(block, there, quantize)
        return model

    return nnx.eval_shape(build)


def abstract_arrays(
    state: nnx.State, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, frozen_dtype: str, trainable: type
) -> nnx.State:
    """The arrays that a model's state will have in memory, as `jax.ShapeDtypeStruct`s with shardings.

    Args:
      state: of an `abstract_model`.
      frozen_dtype: the dtype of parameters that are neither trained nor quantised.
      trainable: the Variable type that training updates; such parameters are float32.
    """
    variables, shardings = variables_by_name(state), parameter_shardings(state, mesh)

    def one(path: tuple[Any, ...], variable: Any) -> Any:
        name, sharding = parameter_name(path), variable.get_value()
        quantised = f"{name}_scale" in variables or name.endswith("_scale")
        kept = variables[name].dtype if quantised else frozen_dtype
        dtype = "float32" if isinstance(variable, (trainable, Exact)) and not quantised else kept
        return variable.replace(jax.ShapeDtypeStruct(variables[name].shape, dtype, sharding=sharding))

    return nnx.from_flat_state([(path, one(path, variable)) for path, variable in nnx.to_flat_state(shardings)])


def variables_by_name(state: nnx.State) -> dict[str, Any]:
    """A state's variables by parameter name, in the state's order."""
    return {parameter_name(path): variable for path, variable in nnx.to_flat_state(state)}


def parameter_name(path: tuple[Any, ...]) -> str:
    """The name of the parameter at a path of a state: "blocks.q", say."""
    return ".".join(map(str, path))
