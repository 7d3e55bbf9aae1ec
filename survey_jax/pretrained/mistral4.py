"""Mistral Small 4 as config.json files describe it: latent attention, and an expert beside those chosen."""

import math

from survey_jax.common.errors import UserError
from survey_jax.model.architecture import Latent, LayerKind, stacks
from survey_jax.model.rotary import Yarn
from survey_jax.pretrained.common_fields import MOST_EXPERTS, Family, build_decoder, rope_section
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.weight_names import LLAMA, Tensor, beside_experts, layer, projection, stacked_experts

MISTRAL4_DEFAULTS = {  # transformers leaves out of a text_config what has its default value
    "vocab_size": 131_072,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_DOWN = {"q_down": "q_a_proj", "k_down": "kv_a_proj_with_mqa"}
_WEIGHTS = LLAMA.with_entries(
    {
        "blocks.q_down_norm": layer("self_attn.q_a_layernorm"),
        "blocks.k_down_norm": layer("self_attn.kv_a_layernorm"),
        "blocks.latent_kv": projection("self_attn.kv_b_proj"),
        "blocks.router": projection("mlp.gate"),
    }
    | {f"blocks.{ours}": projection(f"self_attn.{path}") for ours, path in _DOWN.items()}
    | {f"blocks.{ours}_bias": Tensor(f"model.layers.{{}}.self_attn.{path}.bias") for ours, path in _DOWN.items()}
)


def mistral4(f: Fields) -> Family:
    """The text decoder of Mistral Small 4."""
    for field in ("n_group", "topk_group", "routed_scaling_factor"):
        f.only(field, 1)
    f.ignore("output_router_logits")  # of pretraining
    f.only("num_key_value_heads", f.count("num_attention_heads"))
    latent, head_width = _latent(f)
    rope = rope_section(f) or Fields(_YARN, f.where)
    rope.ignore("max_position_embeddings")
    growth = (rope.number("llama_4_scaling_beta", zero=True), rope.count("original_max_position_embeddings"), 0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "yarn":
        raise UserError(f"{f.where}: rotary scaling {kind!r} is not supported for mistral4; supported: yarn")
    turns = rotary(f, rope, share=latent.turned / head_width, interleaved=f.flag("rope_interleave", True))
    if int(turns.share * head_width) != latent.turned:
        raise rope.refused("partial_rotary_factor", f"qk_rope_head_dim = {latent.turned} of {head_width} are rotated")
    assert isinstance(turns, Yarn)
    # YaRN's factor on cos and sin would leave out the channels that are not rotated.
    longer = 0.1 * rope.number("mscale_all_dim", 0.0, zero=True) * math.log(max(turns.factor, 1.0)) + 1
    width, used = f.count("moe_intermediate_size", 2048), f.count("num_experts_per_tok", 4)
    count = f.count("n_routed_experts", 128, least=max(2, used), most=MOST_EXPERTS)
    dense = LayerKind(turns, growth=growth, experts=False, ff_width=f.count("intermediate_size"))
    first = f.count("first_k_dense_replace", 0, least=0)
    config = build_decoder(
        f,
        [dense if number < first else LayerKind(turns, growth=growth) for number in range(f.layers())],
        head_width=head_width,
        query_scale=head_width**-0.5 * longer**2,
        biases=("q_down", "k_down", "o") if f.flag("attention_bias", False) else (),
        ff_width=width * f.count("n_shared_experts", 1),
        experts=count,
        experts_used=used,
        expert_width=width,
        expert_shares_sum=f.flag("norm_topk_prob", True),
        latent=latent,
    )
    parts = beside_experts(stacks(config), "mlp.shared_experts", "mlp") | stacked_experts("mlp.experts", width)
    queries = {} if latent.queries is None else {"blocks.q": projection("self_attn.q_b_proj")}
    return config, _WEIGHTS.with_entries(parts | queries)


def _latent(f: Fields) -> tuple[Latent, int]:
    """The sizes of latent attention, and the width of a head."""
    turned = f.count("qk_rope_head_dim", 64)
    head_width = turned + f.count("qk_nope_head_dim", 64)
    for field, absent in (("v_head_dim", 128), ("head_dim", head_width), ("qk_head_dim", head_width)):
        if f.count(field, absent) != head_width:
            found = f"it must be qk_nope_head_dim + qk_rope_head_dim = {head_width}"
            raise f.refused(field, found) if field in f else UserError(f"{f.where}: {field} = {absent}: {found}")
    queries = f.count("q_lora_rank", None) if "q_lora_rank" in f else 1024
    return Latent(queries, f.count("kv_lora_rank", 256), turned), head_width
