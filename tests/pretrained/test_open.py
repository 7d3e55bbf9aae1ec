"""An opened model: which head it has, what tells it from others, and what is refused before anything is computed."""

import json
import os
import string
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import sentencepiece
from flax import nnx
from safetensors.numpy import load_file, save_file

import tiny
from gguf_files import VOCAB, WIDTH, write_gguf
from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained import fingerprint
from survey_jax.pretrained.export import write_metadata_files
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import Pretrained, open_pretrained

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.write_model(tmp_path / "model")


def change(model: Path, **tensors: np.ndarray) -> None:
    """Adds or replaces tensors; "__" stands for "."."""
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    save_file(load_file(model / "model.safetensors") | named, model / "model.safetensors")


def load(pretrained: Pretrained) -> dict[str, np.ndarray]:
    abstract = abstract_model(pretrained.config, 0, ())
    made = load_model(pretrained, abstract, make_mesh(1, -1, 1), frozen_dtype="float32", trainable=type(None), seed=0)
    return {".".join(map(str, path)): np.asarray(v.get_value()) for path, v in nnx.to_flat_state(nnx.state(made))}


# --- the head


def test_a_head_that_differs_from_the_embedding_it_is_tied_to_is_used(model: Path, capsys: Any) -> None:
    """As transformers 5 does. It would be dropped without a word otherwise."""
    head = np.random.default_rng(9).normal(0, 0.5, (320, 32)).astype(np.float32)
    change(model, lm_head__weight=head)
    pretrained = open_pretrained(str(model))
    said = capsys.readouterr().out
    assert "lm_head.weight differs from model.embed_tokens.weight, to which config.json ties it" in said
    np.testing.assert_array_equal(load(pretrained)["head"], head)


@pytest.mark.parametrize("place", [(0, 0), (319, 31), (150, 7)])
def test_one_other_number_is_enough(model: Path, place: tuple[int, int]) -> None:
    head = load_file(model / "model.safetensors")[EMBEDDING].copy()
    change(model, lm_head__weight=head)
    assert open_pretrained(str(model)).config.tied_head
    head[place] = np.nextafter(head[place], np.inf, dtype=np.float32)
    change(model, lm_head__weight=head)
    assert not open_pretrained(str(model)).config.tied_head


def test_a_copy_of_the_embedding_is_no_head_of_its_own(model: Path, capsys: Any) -> None:
    change(model, lm_head__weight=load_file(model / "model.safetensors")[EMBEDDING])
    assert open_pretrained(str(model)).config.tied_head
    assert capsys.readouterr().out == ""


def test_the_head_of_a_text_part_is_compared_too(model: Path) -> None:
    text = tiny.write_model(model.parent / "text", "gemma3")
    tensors = load_file(text / "model.safetensors")
    nested = {f"language_model.{name}": value for name, value in tensors.items()}
    hf = {"model_type": "gemma3", "vision_config": {}, "text_config": json.loads((text / "config.json").read_text())}
    (text / "config.json").write_text(json.dumps(hf))
    save_file(nested | {"language_model.lm_head.weight": tensors[EMBEDDING] + 1}, text / "model.safetensors")
    assert not open_pretrained(str(text)).config.tied_head


def test_gguf_files_have_the_head_that_they_store(tmp_path: Path) -> None:
    own = write_gguf(tmp_path / "own.gguf", tensors={"output.weight": np.ones((VOCAB, WIDTH), np.float32)})
    assert not open_pretrained(str(own)).config.tied_head
    assert open_pretrained(str(write_gguf(tmp_path / "tied.gguf"))).config.tied_head


def test_an_exported_config_says_that_the_head_is_its_own(model: Path, tmp_path: Path) -> None:
    """transformers 4 and vLLM go by it, and would tie the head again."""
    (tmp_path / "out").mkdir()
    write_metadata_files(open_pretrained(str(model)), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == (model / "config.json").read_bytes()
    change(model, lm_head__weight=np.ones((320, 32), np.float32))
    write_metadata_files(open_pretrained(str(model)), tmp_path / "out")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (model, tmp_path / "out"))
    assert after == before | {"tie_word_embeddings": False}


# --- the fingerprint


def test_any_byte_of_any_weight_file_makes_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle, where a layer may have been zeroed, and with the file's size and date as before."""
    monkeypatch.setattr(fingerprint, "_BLOCK", 1000)
    file = write_gguf(tmp_path / "m.gguf", tensors={"blk.0.ffn_up.weight": np.ones((512, WIDTH), np.float32)})
    content, times = file.read_bytes(), file.stat()
    before = open_pretrained(str(file)).fingerprint()
    for at in (len(content) // 3, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert open_pretrained(str(file)).fingerprint() != before
    file.write_bytes(content)
    assert open_pretrained(str(file)).fingerprint() == before
    assert open_pretrained(str(file)).fingerprint("int8") == f"{before} int8"


def test_what_a_directory_is_read_from_makes_the_model(model: Path) -> None:
    before = open_pretrained(str(model)).fingerprint()
    (model / "README.md").write_text("notes")
    (model / "unused.safetensors").write_bytes(b"not read")
    assert open_pretrained(str(model)).fingerprint() == before
    name = "model.layers.1.mlp.up_proj.weight"
    change(model, **{name: np.zeros_like(load_file(model / "model.safetensors")[name])})
    assert open_pretrained(str(model)).fingerprint() != before
    config = json.loads((model / "config.json").read_text())
    other = tiny.write_model(model.parent / "other")
    assert open_pretrained(str(other)).fingerprint() == before
    (other / "config.json").write_text(json.dumps(config | {"rope_theta": 2e4}))
    assert open_pretrained(str(other)).fingerprint() != before


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_share_the_reading_and_find_the_same(
    model: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_BLOCK", 10_000)
    alone = open_pretrained(str(model)).fingerprint()
    files = [model / "config.json", model / "model.safetensors"]
    blocks = sum(-(-file.stat().st_size // 10_000) for file in files)
    read: list[Any] = []
    hash_block = fingerprint._block_hash
    monkeypatch.setattr(fingerprint, "_block_hash", lambda block: (read.append(block), hash_block(block))[1])
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    said: list[str] = []

    def say_and_leave(text: str) -> list[str]:
        said.append(text)
        raise EOFError

    monkeypatch.setattr(fingerprint, "all_gather_text", say_and_leave)
    for index in range(processes):  # first what each says, then what they make of all
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with pytest.raises(EOFError):
            open_pretrained(str(model)).fingerprint()
    assert len(read) == len(set(read)) == blocks  # each block once, by one of them
    monkeypatch.setattr(fingerprint, "all_gather_text", lambda _text: said)
    assert open_pretrained(str(model)).fingerprint() == alone


# --- the tokenizer


def test_a_sentencepiece_file_alone_is_read_as_sentencepiece_reads_it(model: Path) -> None:
    """As Vicuna and Llama 2 come."""
    for file in model.glob("tokenizer*"):
        file.unlink()
    letters = " ".join(f"({letter})" for letter in string.ascii_uppercase)
    lines = [f"{row['question']} someone from {row['group']['country']}: {letters}" for row in tiny.rows()]
    with (model / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=320, model_type="bpe", byte_fallback=True,
            character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2, hard_vocab_limit=False,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
        )  # fmt: skip
    with pytest.raises(UserError, match=r"model: has no tokenizer: neither tokenizer\.json nor tokenizer_config\.json"):
        open_pretrained(str(model)).tokenizer()
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "unk_token": "<unk>"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = open_pretrained(str(model)).tokenizer()
    theirs = sentencepiece.SentencePieceProcessor(str(model / "tokenizer.model"))
    for text in ("someone from Kenya had to select: (", "Is tea good?\n(A) Yes\n(B) No", "日本 – “quoted”"):
        assert tokenizer(text)["input_ids"] == [1, *theirs.encode(text)]


# --- refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    ["model.layers.2.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight", EMBEDDING, "model.norm.weight"],
)
def test_a_weight_that_is_no_number_is_refused_with_its_tensor(model: Path, name: str, value: float) -> None:
    tensor = load_file(model / "model.safetensors")[name].copy()
    tensor.reshape(-1)[-3] = value
    change(model, **{name: tensor})
    pretrained = open_pretrained(str(model))
    with pytest.raises(UserError, match=rf"model: tensor {name} holds NaN or infinity"):
        load(pretrained)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_in_every_type(model: Path, dtype: str) -> None:
    import ml_dtypes  # noqa: F401  # so that numpy knows bfloat16 by name

    stored = {name: t.astype(dtype) for name, t in load_file(model / "model.safetensors").items()}
    stored["model.norm.weight"][0] = np.finfo("float16").max  # large, and a number
    save_file(stored, model / "model.safetensors")
    load(open_pretrained(str(model)))
    stored["model.norm.weight"][0] = np.nan
    save_file(stored, model / "model.safetensors")
    with pytest.raises(UserError, match=r"tensor model\.norm\.weight holds NaN or infinity"):
        load(open_pretrained(str(model)))


def twice(file: Path, key: str) -> None:
    """Writes a key of the outermost object a second time, with the value 1."""
    text = file.read_text().rstrip()
    file.write_text(f'{text[:-1]}, "{key}": 1}}')


def test_a_key_twice_in_a_file_is_refused_by_name(model: Path) -> None:
    copies = {name: (model / name).read_text() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
    for name, key in {"tokenizer.json": "model", "tokenizer_config.json": "tokenizer_class"}.items():
        twice(model / name, key)
        with pytest.raises(UserError, match=rf"{name}: not JSON .the name '{key}' is there twice"):
            open_pretrained(str(model)).tokenizer()
        (model / name).write_text(copies[name])
    (model / "tokenizer.json").write_text(copies["tokenizer.json"].replace('"A": 32', '"A": 32, "A": 33', 1))
    with pytest.raises(UserError, match=r"tokenizer\.json: not JSON .the name 'A' is there twice"):
        open_pretrained(str(model)).tokenizer()
    twice(model / "config.json", "num_hidden_layers")
    with pytest.raises(UserError, match=r"config\.json: not JSON .the name 'num_hidden_layers' is there twice"):
        open_pretrained(str(model))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": {"type": "Other"}}'),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '"text"'),
        ("tokenizer_config.json", "null"),
        ("tokenizer_config.json", '{"chat_template": 3, "tokenizer_class": 4}'),
        ("tokenizer_config.json", '{"model_max_length": {}, "added_tokens_decoder": [1]}'),
    ],
)
def test_a_tokenizer_of_another_shape_is_refused_in_one_line(model: Path, file: str, content: str) -> None:
    (model / file).write_text(content)
    with pytest.raises(UserError, match=r"model: has no tokenizer that transformers can load \([^\n]*\)"):
        open_pretrained(str(model)).tokenizer()


@pytest.mark.parametrize("field", tiny.SIZES)
@pytest.mark.parametrize("value", [10**9, 10**12, 10**30, -1, 1.5, "3", True, [3], {}])
def test_sizes_that_no_file_has_are_refused_before_memory_is_asked_for(model: Path, field: str, value: Any) -> None:
    import tracemalloc

    config = json.loads((model / "config.json").read_text())
    if field == "rms_norm_eps" or (field == "tie_word_embeddings" and value is True):
        pytest.skip("no size")
    (model / "config.json").write_text(json.dumps(config | {field: value}))
    tracemalloc.start()
    with pytest.raises(UserError) as error:
        load(open_pretrained(str(model)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert peak < 50e6
