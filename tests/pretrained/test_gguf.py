"""GGUF files: config and tensors, against transformers and torch, and against hand-made files."""

import struct
import tracemalloc

import gguf
import numpy as np
import pytest
import transformers
from gguf import GGMLQuantizationType as Kind

from gguf_files import FF, HEAD, HEADS, KV_HEADS, VOCAB, WIDTH, write_gguf
from survey_jax.common.errors import UserError
from survey_jax.pretrained.families import decoder_config
from survey_jax.pretrained.gguf_files import GGUF


def hf_to_gguf_rows(weights, heads):
    """llama.cpp's own permutation of Llama's query and key rows (convert_hf_to_gguf.py, LlamaModel.permute)."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


# --- hand-made files


def test_llama_rows_are_put_back_in_order(tmp_path):
    draw = np.random.default_rng(0).normal
    q, k, v = (draw(size=(n * HEAD, WIDTH)).astype(np.float32) for n in (HEADS, KV_HEADS, KV_HEADS))
    tensors = {"attn_q": hf_to_gguf_rows(q, HEADS), "attn_k": hf_to_gguf_rows(k, KV_HEADS), "attn_v": v}
    file = GGUF(write_gguf(tmp_path / "m.gguf", tensors={f"blk.0.{n}.weight": t for n, t in tensors.items()}))
    for letter, expected in {"q": q, "k": k, "v": v}.items():
        name = f"model.layers.0.self_attn.{letter}_proj.weight"
        np.testing.assert_array_equal(file.read(name), expected)
        for index in [(slice(3, 70),), (slice(None), slice(5, 9)), (slice(100, 101), slice(0, 0)), (slice(0, 0),)]:
            np.testing.assert_array_equal(file.read(name, index), expected[index])
        assert file.shape(name) == expected.shape
        assert file.dtype(name) == file.read(name).dtype == np.float32


# Whole numbers that the format holds exactly, if each block has both ends.
EXACT = {"F32": (-99, 99), "F16": (-99, 99), "BF16": (-99, 99), "Q8_0": (-127, 127), "Q4_0": (-8, 7), "Q4_1": (0, 15),
         "Q5_0": (-16, 15), "Q5_1": (0, 31)}  # fmt: skip


@pytest.mark.parametrize("kind", EXACT)
def test_exact_values_come_back(tmp_path, kind):
    low, high = EXACT[kind]
    values = np.random.default_rng(1).integers(low, high + 1, (FF, WIDTH)).astype(np.float32)
    values[:, ::32], values[:, 1::32] = low, high
    raw = gguf.quants.quantize(values, Kind[kind])
    file = GGUF(write_gguf(tmp_path / "m.gguf", tensors={"blk.0.ffn_up.weight": (raw, Kind[kind])}))
    np.testing.assert_array_equal(file.read("model.layers.0.mlp.up_proj.weight"), values)
    np.testing.assert_array_equal(file.read("model.layers.0.mlp.up_proj.weight", (slice(7, 40),)), values[7:40])


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_random_blocks_match_torch(tmp_path, kind):
    torch = pytest.importorskip("torch")
    from transformers.integrations.gguf import dequant

    elements, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    raw = np.random.default_rng(2).integers(0, 256, (6, WIDTH // elements, size), np.uint8)
    scales = {"Q2_K": [-3, -1], "Q3_K": [-1], "Q6_K": [-1], "Q4_0": [1], "Q8_0": [1]}.get(kind, [1, 3])
    for high_byte in scales:  # of a float16: keep it finite
        raw[..., high_byte] = raw[..., high_byte] % 16 + 40
    raw = raw.reshape(6, -1)
    file = GGUF(write_gguf(tmp_path / "m.gguf", tensors={"blk.0.ffn_up.weight": (raw, Kind[kind])}))
    expected = dequant.dequantize(torch.from_numpy(raw), int(Kind[kind])).reshape(6, WIDTH).numpy()
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(file.read("model.layers.0.mlp.up_proj.weight"), expected, rtol=1e-6, atol=1e-6)


def _readable(kind):
    try:
        gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


READABLE = [kind for kind in Kind if _readable(kind)]


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # random scales may be infinite
@pytest.mark.parametrize("kind", READABLE, ids=[kind.name for kind in READABLE])
def test_every_quantisation(tmp_path, kind):
    """Parts of a tensor of every type that the gguf package knows how to read are those of its own reading."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(3).integers(0, 256, (9, WIDTH // elements * size), np.uint8)
    file = GGUF(write_gguf(tmp_path / "m.gguf", tensors={"blk.0.ffn_up.weight": (raw, kind)}))
    expected = gguf.quants.dequantize(raw, kind).astype(np.float32)
    assert expected.shape == (9, WIDTH)
    for index in [(), (slice(2, 7),), (slice(8, 9), slice(30, 70))]:
        np.testing.assert_array_equal(file.read("model.layers.0.mlp.up_proj.weight", index), expected[index])


def test_usual_quantisations_are_among_them():
    usual = "F32 F16 BF16 Q8_0 Q6_K Q5_K Q5_0 Q5_1 Q4_K Q4_0 Q4_1 Q3_K Q2_K IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_XS IQ2_S"
    assert set(usual.split()) <= {kind.name for kind in READABLE}


OTHERS = {
    "qwen2": lambda sizes: transformers.Qwen2Config(**sizes),
    "qwen3": lambda sizes: transformers.Qwen3Config(**sizes, head_dim=HEAD),
    "gemma2": lambda sizes: transformers.Gemma2Config(
        **sizes, head_dim=HEAD, sliding_window=48, query_pre_attn_scalar=HEAD
    ),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_architectures_match_transformers(tmp_path, architecture, cached_gguf_reader):
    """A random model of transformers' own in llama.cpp's names and layout: transformers and we read the same."""
    pytest.importorskip("torch")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    sizes = {"vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": FF, "num_hidden_layers": 2,
             "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 128,
             "rms_norm_eps": 1e-5, "tie_word_embeddings": True}  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(OTHERS[architecture](sizes))
    names = gguf.get_tensor_name_map({"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3,
                                      "gemma2": gguf.MODEL_ARCH.GEMMA2}[architecture], 2)  # fmt: skip
    state = {n: t.numpy() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    tensors = {
        names.get_name(n, try_suffixes=(".weight", ".bias")): t + (architecture == "gemma2" and "norm" in n)
        for n, t in state.items()
    }
    fields = {f"{architecture}__block_count": 2, f"{architecture}__attention__key_length": HEAD,
              f"{architecture}__attention__value_length": HEAD}  # fmt: skip
    fields |= {"gemma2__attention__sliding_window": 48} if architecture == "gemma2" else {}
    path = write_gguf(tmp_path / "m.gguf", architecture, tensors, **fields)
    file = GGUF(path)
    theirs = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    assert set(file.names) == set(state) == set(theirs["tensors"])
    for name, expected in state.items():
        np.testing.assert_allclose(file.read(name), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(file.read(name), theirs["tensors"][name].numpy())
    built = transformers.AutoConfig.for_model(**file.config()).to_dict()
    for key, value in model.config.to_dict().items():
        if key not in ("architectures", "dtype", "bos_token_id", "eos_token_id", "pad_token_id"):
            assert built[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_gemma_norms_lose_the_one_that_gguf_adds(tmp_path):
    norms = {"output_norm": "model.norm", "blk.0.attn_q_norm": "model.layers.0.self_attn.q_norm",
             "blk.0.post_ffw_norm": "model.layers.0.post_feedforward_layernorm"}  # fmt: skip
    tensors = {f"{name}.weight": np.full(WIDTH, 1.25, np.float32) for name in norms}
    path = write_gguf(tmp_path / "m.gguf", "gemma3", tensors, gemma3__attention__sliding_window=512)
    file = GGUF(path)
    for name in norms.values():
        np.testing.assert_array_equal(file.read(f"{name}.weight"), np.full(WIDTH, 0.25, np.float32))
    config = file.config()
    assert config["rope_local_base_freq"] == 1e4
    assert (config["query_pre_attn_scalar"], config["sliding_window"]) == (HEAD, 512)
    tensors = {"output_norm.weight": np.full(WIDTH, 1.25, np.float32)}
    llama = GGUF(write_gguf(tmp_path / "l.gguf", "llama", tensors))
    np.testing.assert_array_equal(llama.read("model.norm.weight", (slice(2, 4),)), [1.25, 1.25])


def test_rotary_scaling(tmp_path):
    pytest.importorskip("torch")  # which transformers computes its frequencies with

    def config(**kwargs):
        return GGUF(write_gguf(tmp_path / "m.gguf", **kwargs)).config()

    assert config()["rope_scaling"] is None
    assert config(llama__rope__scaling__type="none", llama__rope__scaling__factor=2.0)["rope_scaling"] is None
    linear = config(llama__rope__scaling__type="linear", llama__rope__scaling__factor=8.0, llama__rope__freq_base=5e5)
    assert (linear["rope_scaling"], linear["rope_theta"]) == ({"rope_type": "linear", "factor": 8.0}, 5e5)
    with pytest.raises(UserError, match="rotary scaling 'yarn' is not supported"):
        config(llama__rope__scaling__type="yarn")
    # transformers: inverse frequencies of Llama 3.1; llama.cpp stores the plain ones divided by them
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    hf = transformers.LlamaConfig(
        head_dim=HEAD, max_position_embeddings=131072, rope_parameters={**scaling, "rope_theta": 5e5}
    )
    scaled = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](hf, "cpu")[0].numpy()
    factors = (5e5 ** (-np.arange(0, HEAD, 2) / HEAD) / scaled).astype(np.float32)
    assert factors.max() > 7.9
    found = config(tensors={"rope_freqs.weight": factors}, llama__rope__freq_base=5e5)
    assert found["rope_scaling"].pop("factor") == pytest.approx(scaling.pop("factor"), rel=1e-5)
    assert found["rope_scaling"] == scaling
    assert "rope_freqs.weight" not in GGUF(tmp_path / "m.gguf").names
    with pytest.raises(UserError, match=r"rope_freqs\.weight is not Llama 3's"):
        config(tensors={"rope_freqs.weight": factors[::-1].copy()}, llama__rope__freq_base=5e5)


def test_untied_head_and_sizes(tmp_path):
    tied = GGUF(write_gguf(tmp_path / "a.gguf"))
    assert tied.config()["tie_word_embeddings"] is True
    assert tied.config()["vocab_size"] == VOCAB
    untied = GGUF(write_gguf(tmp_path / "b.gguf", tensors={"output.weight": np.ones((VOCAB, WIDTH), np.float32)}))
    assert untied.config()["tie_word_embeddings"] is False
    assert "lm_head.weight" in untied.names
    ours, _ = decoder_config(untied.config(), "b.gguf")
    assert (ours.heads, ours.kv_heads, ours.head_width, ours.norm_eps) == (HEADS, KV_HEADS, HEAD, 1e-5)


@pytest.mark.parametrize("keep", [0, 3, 10, 40, 300, -1])
def test_truncated_file(tmp_path, keep):
    path = write_gguf(tmp_path / "m.gguf", tensors={"blk.0.ffn_up.weight": np.ones((FF, WIDTH), np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"m\.gguf: truncated: .*; fetch the file again"):
        GGUF(path)


def test_refused_files(tmp_path):
    path = tmp_path / "m.gguf"
    with pytest.raises(UserError, match=r"m\.gguf: no such file"):
        GGUF(path)
    path.write_text("PK, not weights")
    with pytest.raises(UserError, match=r"m\.gguf: not a GGUF file"):
        GGUF(path)
    with pytest.raises(
        UserError, match="architecture 'mamba' is not supported; use a GGUF file of llama, qwen2, qwen3, gemma"
    ):
        GGUF(write_gguf(path, "mamba"))
    with pytest.raises(UserError, match=r"tensor blk\.0\.attn_q\.bias is not supported in a llama model"):
        GGUF(write_gguf(path, tensors={"blk.0.attn_q.bias": np.zeros(WIDTH, np.float32)}))
    with pytest.raises(UserError, match=r"rope\.dimension_count is not the head width \(64\)"):
        GGUF(write_gguf(path, llama__rope__dimension_count=32)).config()
    with pytest.raises(UserError, match=r"llama\.attention\.head_count_kv must be one value, and is an array"):
        GGUF(write_gguf(path, llama__attention__head_count_kv=[1, 2])).config()
    with pytest.raises(UserError, match=r"llama\.attention\.head_count must be one positive integer"):
        GGUF(write_gguf(path, llama__attention__head_count=True)).config()
    with pytest.raises(UserError, match=r"llama\.rope\.freq_base must be a number, not 'x'"):
        GGUF(write_gguf(path, llama__rope__freq_base="x")).config()
    with pytest.raises(UserError, match=r"llama\.block_count is 4,294,967,295, and the file has only 1 tensor; "):
        GGUF(write_gguf(path, llama__block_count=2**32 - 1)).config()


def field(key: str, kind: int, value: bytes) -> bytes:
    """A metadata field as the format has it."""
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


ARCHITECTURE = field("general.architecture", 8, text("llama"))
TENSOR = text("output_norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 0)
LONG = 2**62
LYING = {
    "a field twice": ((0, 2), ARCHITECTURE * 2, "has the metadata field 'general.architecture' twice"),
    "a tensor twice": ((2, 1), ARCHITECTURE + TENSOR * 2, "has the tensor 'output_norm.weight' twice"),
    "fields": ((0, LONG), ARCHITECTURE, "truncated: ends within its header"),
    "tensors": ((LONG, 1), ARCHITECTURE + TENSOR, "truncated: ends within its header"),
    "a long text": ((0, 1), struct.pack("<Q", LONG), "truncated: ends within its header"),
    "an array of numbers": ((0, 1), field("a", 9, struct.pack("<IQ", 12, LONG)), "truncated: ends within its header"),
    "an array of texts": ((0, 1), field("a", 9, struct.pack("<IQ", 8, LONG)), "truncated: ends within its header"),
    "axes": ((1, 0), text("x") + struct.pack("<I", 2**32 - 1), "tensor 'x' has 4,294,967,295 axes"),
    "a large tensor": ((1, 1), ARCHITECTURE + text("x") + struct.pack("<IQQIQ", 2, LONG, LONG, 0, 0), "truncated: has"),
    "a far tensor": ((1, 1), ARCHITECTURE + text("x") + struct.pack("<IQIQ", 1, 4, 0, 2**63), "truncated: has"),
    "architecture of numbers": (
        (0, 1), field("general.architecture", 9, struct.pack("<IQ", 0, 2) + b"ab"), "architecture array([97, 98]",
    ),
    "architecture of texts": (
        (0, 1), field("general.architecture", 9, struct.pack("<IQ", 8, 1) + text("llama")), "architecture ['llama']",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LYING)
def test_a_header_that_says_what_is_not_there_is_refused_at_once(tmp_path, name):
    counts, rest, message = LYING[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + rest + bytes(64 if "twice" in name else 0))
    tracemalloc.start()
    with pytest.raises(UserError) as error:
        GGUF(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: {message}")
    assert peak < 1 << 20


def test_refused_quantisations(tmp_path):
    tensors = {"blk.0.ffn_up.weight": (np.zeros((4, 292), np.uint8), Kind.Q8_K)}
    path = write_gguf(tmp_path / "m.gguf", tensors=tensors)
    with pytest.raises(UserError, match=r"tensor blk\.0\.ffn_up\.weight: quantisation Q8_K is not supported"):
        GGUF(path)
    data = path.read_bytes()
    at = data.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4 + 2 * 8
    path.write_bytes(data[:at] + (99).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(UserError, match=r"tensor blk\.0\.ffn_up\.weight: quantisation type 99 is not supported"):
        GGUF(path)


# --- real weights


def same_tensors(path, model):
    file, state = GGUF(path), model.state_dict()
    assert set(file.names) == set(state) - {"lm_head.weight"}
    for name in file.names:
        expected = state[name].numpy()
        assert file.shape(name) == expected.shape
        assert np.array_equal(file.read(name), expected), name
        if expected.ndim == 2:
            part = (slice(33, 40), slice(2, 7))
            assert np.array_equal(file.read(name, part), expected[part]), name


def same_config(path, theirs):
    """Our config.json, read by transformers, is the config that transformers itself finds in the file."""
    ours = GGUF(path).config()
    built = transformers.AutoConfig.for_model(**ours).to_dict()
    for key, value in theirs.to_dict().items():
        if key not in ("_name_or_path", "_model_name_or_path", "architectures", "unk_token_id", "dtype"):
            assert built[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    config, _ = decoder_config(ours, str(path))
    assert config == decoder_config({**theirs.to_dict(), "rms_norm_eps": ours["rms_norm_eps"]}, "theirs")[0]


@pytest.mark.real_weights
def test_smollm2_matches_transformers(smollm2_gguf, smollm2_torch):
    same_config(smollm2_gguf, smollm2_torch.config)
    same_tensors(smollm2_gguf, smollm2_torch)


@pytest.mark.real_weights
def test_gemma3_matches_transformers(gemma3_gguf, gemma3_torch):
    same_config(gemma3_gguf, gemma3_torch.config)
    same_tensors(gemma3_gguf, gemma3_torch)
