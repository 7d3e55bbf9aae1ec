"""--explain_sharding: layouts, bytes of each device, and what stays whole because the mesh does not divide it."""

from flax import nnx
from jax.sharding import AbstractMesh

from survey_jax.model.abstract import abstract_arrays, abstract_model
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding_table import bytes_per_device, layouts, text
from survey_jax.pretrained.families import decoder_config
from tiny import SIZES


def test_every_parameter_with_its_layout() -> None:
    config, _ = decoder_config(SIZES | {"model_type": "llama"}, "tiny")
    mesh = AbstractMesh((1, 4, 3), ("data", "fsdp", "tensor"))
    graphdef, state = nnx.split(abstract_model(config, 4, ("q",), "int8"))
    model = nnx.merge(graphdef, abstract_arrays(state, mesh, "bfloat16", LoraParam))
    _, params, frozen = nnx.split(model, LoraParam, ...)
    rows = {f"{r.part} {r.name}": r for r in layouts(params, (), frozen, mesh)}

    q = rows["frozen blocks.q"]  # codes [3, 32, 64]; 3 does not divide 64
    assert (q.axes, q.dtype, q.spec) == (("layers", "embed", "heads"), "int8", (None, "fsdp", None))
    assert q.bytes == 3 * 32 * 64 / 4
    assert q.undivided == ("tensor 3 does not divide heads 64",)
    assert rows["frozen blocks.q_scale"].bytes == 3 * 64 * 4  # float32
    assert rows["frozen final_norm"].undivided == ()  # never split
    assert rows["frozen embedding"].bytes == 320 * 32 * 2 / 4  # bfloat16, columns split
    assert rows["trained blocks.q_lora_a"].bytes == 3 * 32 * 4 * 4 / 4
    assert sum(r.bytes for r in rows.values()) == bytes_per_device((params, frozen))
    (line,) = [line for line in text(list(rows.values())).splitlines() if " blocks.q " in line]
    assert line.endswith("whole: tensor 3 does not divide heads 64")
