"""Writes small GGUF files for tests."""

import gguf
import numpy as np

HEADS, KV_HEADS, HEAD, WIDTH, FF, VOCAB = 4, 2, 64, 256, 512, 32


def write_gguf(path, architecture="llama", tensors=None, **metadata):
    """A one-layer file. `tensors`: name -> array, or (raw bytes, kind); metadata keys have "__" for "."."""
    writer = gguf.GGUFWriter(path, architecture)
    fields = {
        "block_count": 1,
        "context_length": 128,
        "embedding_length": WIDTH,
        "feed_forward_length": FF,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    for key, value in {f"{architecture}.{k}": v for k, v in fields.items()}.items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for key, value in metadata.items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32, bool: writer.add_bool}
        add.get(type(value), writer.add_array)(key.replace("__", "."), value)
    default = {"token_embd.weight": np.zeros((VOCAB, WIDTH), np.float32)}
    for name, tensor in {**default, **(tensors or {})}.items():
        data, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
