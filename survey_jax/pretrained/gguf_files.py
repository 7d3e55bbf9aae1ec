"""GGUF files read as Hugging Face models: a config, and float32 tensors with Hugging Face's names and layouts."""

import math
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from survey_jax.common.errors import UserError, plural
from survey_jax.pretrained.gguf_header import Header, Stored, map_file, unsupported
from survey_jax.pretrained.safetensors_files import TensorSource

_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    **{f"attn_{part}.weight": f"self_attn.{part}_proj.weight" for part in "qkv"},
    **{f"ffn_{part}.weight": f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")},
}
_BIASES = {f"attn_{part}.bias": f"self_attn.{part}_proj.bias" for part in "qkv"}
_QK_NORMS = {f"attn_{part}_norm.weight": f"self_attn.{part}_norm.weight" for part in "qk"}
_GEMMA2_LAYER = _LAYER | {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYERS = {
    "llama": _LAYER,
    "qwen2": _LAYER | _BIASES,
    "qwen3": _LAYER | _QK_NORMS,
    "gemma2": _GEMMA2_LAYER,
    "gemma3": _GEMMA2_LAYER | _QK_NORMS,
}
_ROPE_FACTORS = "rope_freqs.weight"


class GGUF(TensorSource):
    """A GGUF file of a supported architecture (a key of _LAYERS). Opening reads its header, `read` its tensors.

    Attributes:
      metadata: its key-value pairs; arrays of numbers are numpy arrays, arrays of strings are lists.

    Raises:
      UserError: the file is missing, truncated or not GGUF; or its architecture, a tensor or a quantisation is unknown.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with map_file(self.path) as data:
            self.metadata, stored = Header(self.path, data).parse()
        architecture = self.metadata.get("general.architecture")
        if not isinstance(architecture, str) or architecture not in _LAYERS:
            raise UserError(
                f"{path}: architecture {architecture!r:.60} is not supported; use a GGUF file of {', '.join(_LAYERS)}"
            )
        self.architecture: str = architecture
        for kind, name in {s.kind: s.name for s in reversed(stored)}.items():
            try:  # whether the gguf package can read it, on a block of zeros
                gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
            except NotImplementedError as error:
                raise UserError(unsupported(self.path, name, kind.name)) from error
        self._rope_factors = next((s for s in stored if s.name == _ROPE_FACTORS), None)
        self._tensors: dict[str, Stored] = {self._hf_name(s.name): s for s in stored if s is not self._rope_factors}

    @property
    def files(self) -> list[Path]:
        return [self.path]

    def header(self) -> bytes:
        """The bytes before the first tensor: all metadata, including the tokenizer's vocabulary."""
        with self.path.open("rb") as file:
            return file.read(min((s.offset for s in self._tensors.values()), default=-1))

    def dtype(self, name: str) -> np.dtype:
        """float32, whatever the file stores."""
        self._tensors[name]
        return np.dtype(np.float32)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The part of a tensor that `index` selects, float32, perhaps read-only.

        Only the selected rows are dequantised. Two changes that GGUF makes are undone: the query and key rows of Llama
        are interleaved for its rotary embedding, and Gemma's norm weights have 1 added.
        """
        stored = self._tensors[name]
        rows, *columns = index or (slice(None),)
        order = self._row_order(stored)
        if len(stored.shape) == 1:
            values = self._dequantise(stored)[rows]
        else:
            values = self._dequantise(stored, rows if order is None else order[rows])[:, *columns]
        if self.architecture.startswith("gemma") and name.endswith("norm.weight"):
            return values - np.float32(1)
        return values

    def config(self) -> dict[str, Any]:
        """The model's config as a Hugging Face config.json would have it (rotary fields as in transformers 4).

        Raises UserError where a field is missing or has an unsupported value.
        """
        width, heads = self._integer("embedding_length"), self._integer("attention.head_count")
        head_width = self._integer("attention.key_length", width // heads)
        if "model.embed_tokens.weight" not in self._tensors:
            raise UserError(f"{self.path}: tensor token_embd.weight is missing")
        if (layers := self._integer("block_count")) > len(self._tensors):  # before there is a list of that length
            raise UserError(
                f"{self.path}: {self.architecture}.block_count is {layers:,}, and the file has only "
                f"{plural(len(self._tensors), 'tensor')}; fetch the file again, or convert the model again"
            )
        config: dict[str, Any] = {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self._integer("attention.head_count_kv", heads),
            "head_dim": head_width,
            "intermediate_size": self._integer("feed_forward_length"),
            "vocab_size": self.shape("model.embed_tokens.weight")[0],
            "rms_norm_eps": self._field("attention.layer_norm_rms_epsilon"),
            "max_position_embeddings": self._integer("context_length"),
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
            "attention_bias": False,
        }
        for ours, theirs in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
            config[f"{ours}_token_id"] = self.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        for key, expected in {"rope.dimension_count": head_width, "attention.value_length": head_width}.items():
            if self._field(key, expected) != expected:
                raise UserError(f"{self.path}: {key} is not the head width ({expected}), which is not supported")
        families = {"qwen2": self._qwen, "qwen3": self._qwen, "gemma2": self._gemma2, "gemma3": self._gemma3}
        return config | families.get(self.architecture, self._llama)(config)

    def _llama(self, config: dict[str, Any]) -> dict[str, Any]:
        base = self._number("rope.freq_base", 1e4)
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "mlp_bias": False,
            "rope_theta": base,
            "rope_scaling": self._rope_scaling(base, config["head_dim"]),
        }

    def _qwen(self, config: dict[str, Any]) -> dict[str, Any]:
        kind = {"model_type": self.architecture, "architectures": [f"Qwen{self.architecture[-1]}ForCausalLM"]}
        return self._llama(config) | kind | {"use_sliding_window": False}

    def _gemma2(self, config: dict[str, Any]) -> dict[str, Any]:
        """Every second layer has a window, which the file does not say."""
        return self._gemma(config, theta=1e4, largest=46, pattern=2, caps=(50.0, 30.0)) | {"model_type": "gemma2"}

    def _gemma3(self, config: dict[str, Any]) -> dict[str, Any]:
        """Files may lack the layers' pattern and the local rotary base; the defaults are Gemma 3's."""
        pattern = self._integer("attention.sliding_window_pattern", 6)
        return self._gemma(config, theta=1e6, largest=62, pattern=pattern, caps=(None, None)) | {
            "model_type": "gemma3_text",
            "rope_local_base_freq": self._field("rope.freq_base_swa", 1e4),
            "sliding_window_pattern": pattern,
        }

    def _gemma(
        self, config: dict[str, Any], theta: float, largest: int, pattern: int, caps: tuple[float | None, float | None]
    ) -> dict[str, Any]:
        """What Gemma 2 and 3 have in common.

        Args:
          largest: the layers of the 27B model, which alone scales queries by width / heads, not by its head width.
          pattern: of so many layers, the last has no window.
        """
        layers, base = config["num_hidden_layers"], self._number("rope.freq_base", theta)
        by_width = config["hidden_size"] // config["num_attention_heads"]
        return {
            "architectures": [f"Gemma{self.architecture[-1]}ForCausalLM"],
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": by_width if layers == largest else config["head_dim"],
            "rope_theta": base,
            "rope_scaling": self._rope_scaling(base, config["head_dim"]),
            "sliding_window": self._integer("attention.sliding_window"),
            "layer_types": ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)],
            "attn_logit_softcapping": self._field("attn_logit_softcapping", caps[0]),
            "final_logit_softcapping": self._field("final_logit_softcapping", caps[1]),
        }

    def _rope_scaling(self, base: float, head_width: int) -> dict[str, Any] | None:
        if self._rope_factors is not None:
            return self._llama3_scaling(self._dequantise(self._rope_factors), base, head_width)
        kind = self._field("rope.scaling.type", "linear")  # llama.cpp's default, with factor 1
        factor = self._number("rope.scaling.factor", self._number("rope.scale_linear", 1.0))
        if kind == "none" or (kind == "linear" and factor in (0, 1)):
            return None
        if kind != "linear":
            raise UserError(f"{self.path}: rotary scaling {kind!r} is not supported; supported: none, linear, llama3")
        return {"rope_type": "linear", "factor": factor}

    def _llama3_scaling(self, factors: np.ndarray, base: float, head_width: int) -> dict[str, Any]:
        """Recovers the parameters of Llama 3.1's scaling, which GGUF stores as a divisor of each frequency."""
        factor, low, high, length = float(factors.max()), 1.0, 4.0, 8192
        turns = length * base ** (-np.arange(0, head_width, 2) / head_width) / (2 * math.pi)
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        expected = 1 / ((1 - smooth) / factor + smooth)
        if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
            raise UserError(f"{self.path}: {_ROPE_FACTORS} is not Llama 3's rotary scaling, the only one supported")
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": length,
        }

    def _row_order(self, stored: Stored) -> np.ndarray | None:
        """The stored rows in Hugging Face's order ([head, half, pair] for [head, pair, half]); None: no difference."""
        part = stored.name.rpartition("attn_")[2]
        if self.architecture != "llama" or part not in ("q.weight", "k.weight"):
            return None
        heads = self._integer("attention.head_count")
        if part == "k.weight":
            heads = self._integer("attention.head_count_kv", heads)
        return np.arange(stored.shape[0]).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)

    def _dequantise(self, stored: Stored, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        # Mapped only while it is read, because mapped pages count as memory of the process.
        data: np.ndarray = np.memmap(self.path, np.uint8, "r", stored.offset, stored.size)
        if len(stored.shape) > 1:
            data = data.reshape(stored.shape[0], -1)[rows]
            if not len(data):
                return np.zeros((0, *stored.shape[1:]), np.float32)
        return gguf.quants.dequantize(data, stored.kind).astype(np.float32, copy=False)

    def _hf_name(self, name: str) -> str:
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        if block and (inner := _LAYERS[self.architecture].get(block[2])):
            return f"model.layers.{block[1]}.{inner}"
        if name in _OUTSIDE:
            return _OUTSIDE[name]
        raise UserError(f"{self.path}: tensor {name} is not supported in a {self.architecture} model")

    def _field(self, key: str, *default: Any) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", *default)
        if value is None and not default:
            raise UserError(f"{self.path}: metadata field {self.architecture}.{key} is missing")
        if isinstance(value, list | np.ndarray):
            raise UserError(f"{self.path}: {self.architecture}.{key} must be one value, and is an array")
        return value

    def _number(self, key: str, default: float) -> float:
        value = self._field(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise UserError(f"{self.path}: {self.architecture}.{key} must be a number, not {value!r:.60}")
        return value

    def _integer(self, key: str, *default: int) -> int:
        value = self._field(key, *default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.path}: {self.architecture}.{key} must be one positive integer")
        return value
