"""A run's model goes out to transformers and PEFT and predicts there what it predicts here."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

import tiny
from binaries import Binary, check_refusal, contents
from made_prompts import encode
from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig
from survey_jax.inference.parity import our_logits, spread, their_logits
from survey_jax.inputs.personas import someone
from survey_jax.inputs.prompts import Prompter
from survey_jax.inputs.task import batch_shape, read_answers
from survey_jax.model.abstract import abstract_model
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained import export
from survey_jax.pretrained.families import decoder_config
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.pretrained.peft_format import write_adapter
from survey_jax.pretrained.safetensors_files import SafetensorsDirectory, ShardWriter
from survey_jax.pretrained.weight_names import LLAMA, Tensor
from survey_jax.survey.table_files import fold
from survey_jax.training.build import Model
from survey_jax.training.step import StepConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

STEPS = 6
ALPHA, RANK = 16.0, 4
FAMILIES = {"lora": "gemma3", "full": "llama"}


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@contextlib.contextmanager
def binary(name: str) -> Iterator[Binary]:
    process = Binary(f"survey_jax.{name}")
    yield process
    process.process.communicate()


@pytest.fixture(scope="module")
def exporter() -> Iterator[Binary]:
    with binary("export") as process:
        yield process


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Two runs and their predictions: adapters on a Gemma, at temperature 1; all weights of a Llama, calibrated."""
    folder = tmp_path_factory.mktemp("export")
    table = tiny.write_rows(folder / "rows.jsonl", tiny.rows(questions=30))
    valid = tuple(f"q{number}" for number in range(10, 28))  # enough to calibrate on
    with binary("train") as train:
        for run, family in FAMILIES.items():
            (folder / run).mkdir()
            model = tiny.write_model(folder / run / "model", family)
            (model / "generation_config.json").write_text('{"do_sample": true, "top_k": 1}')
            (model / "chat_template.jinja").write_text("{{ messages[0].content }}\n")
            (model / "LICENSE").write_text("Do as you like.\n")
            kind = {"lora": {"lora__rank": str(RANK), "run__calibrate": "False"}, "full": {"lora__rank": "0"}}[run]
            steps = {"optim__steps": str(STEPS), "run__eval_every": str(STEPS)}
            steps |= {"data__splits__valid_questions": repr(valid)}
            config = tiny.write_config(folder / run, model, table, **kind, **steps)
            assert train(f"--config={config}", f"--workdir={folder / run / 'run'}") == (0, "")
    with binary("eval") as evaluate:
        for run in FAMILIES:
            assert evaluate(f"--workdir={folder / run / 'run'}", "--name=here") == (0, "")
    return folder


@pytest.fixture(scope="module")
def exported(world: Path, exporter: Binary) -> dict[str, Path]:
    folders = {}
    for run, form in (("lora", "merged"), ("lora", "peft"), ("full", "merged")):
        output = world / run / "out" / form
        code, stderr = exporter(f"--workdir={world / run / 'run'}", f"--format={form}", f"--output={output}")
        assert code == 0, stderr
        folders[f"{run} {form}"] = output
    return folders


def load(folder: Path, base: Path):
    """A model as a user of transformers or PEFT gets it."""
    if (folder / "adapter_config.json").is_file():
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        return peft.PeftModel.from_pretrained(model, folder).eval()
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def distributions(model, tokenizer, about: dict, rows: pd.DataFrame) -> list[np.ndarray]:
    """What docs/export.md says: write the prompt, take the letters' logits, divide, normalise."""
    template = about["wording"]["en"]
    result = []
    for row in rows.to_dict("records"):
        who = someone(tuple(sorted(fold(row)["group"].items())))
        letters = list(about["letters"])[: len(row["options"])]
        options = template["separator"].join(
            template["option"].format(letter=letter, text=text)
            for letter, text in zip(letters, row["options"], strict=True)
        )
        text = template["body"].format(question=row["question"], options=options, group=who)
        text += template["stem"].format(group=who)
        tokens = tokenizer(text, add_special_tokens=about["add_special_tokens"], return_tensors="pt")
        with torch.no_grad():
            logits = model(tokens["input_ids"]).logits[0, -1].double().numpy()
        kind = "known question" if row["split"] == "unseen_group" else "new question"
        temperature = about["temperatures"].get(kind, 1)
        result.append(softmax(logits[[about["letters"][letter] for letter in letters]] / temperature))
    return result


@pytest.mark.parametrize("which", ["lora merged", "lora peft", "full merged"])
def test_predictions_elsewhere_are_ours(which: str, world: Path, exported: dict[str, Path]) -> None:
    run = which.split()[0]
    rows = pd.read_parquet(world / run / "run" / "eval" / "here" / "predictions.parquet")
    about = json.loads((exported[which] / "survey_jax.json").read_text())
    assert about["step"] == STEPS
    assert (about["temperatures"].get("new question", 1) == 1) == (run == "lora")
    base = world / run / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    there = distributions(load(exported[which], base), tokenizer, about, rows)
    untrained = distributions(load(base, base), tokenizer, about, rows)
    difference = max(np.abs(a - b).max() for a, b in zip(rows["prediction"], there, strict=True))
    learned = max(np.abs(a - b).max() for a, b in zip(there, untrained, strict=True))
    print(f"{which}: {difference:.1e} on {len(rows)} rows; training changed {learned:.2f}")
    assert difference < 1e-5
    assert learned > 0.01


@pytest.mark.parametrize("run", ["lora", "full"])
def test_papers_are_the_base_s_byte_for_byte(run: str, world: Path, exported: dict[str, Path]) -> None:
    base = contents(world / run / "model")
    papers = {path.name: data for path, data in base.items() if path.suffix != ".safetensors"}
    assert {"config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja", "LICENSE"} <= set(papers)
    out = {path.name: data for path, data in contents(exported[f"{run} merged"]).items()}
    assert {name: out[name] for name in papers} == papers
    assert set(out) == {*papers, "model.safetensors", "survey_jax.json"}


def test_adapter_files(exported: dict[str, Path]) -> None:
    config = json.loads((exported["lora peft"] / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (RANK, ALPHA, "none")
    assert set(config["target_modules"]) == {f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")}
    tensors = load_file(exported["lora peft"] / "adapter_model.safetensors")
    assert len(tensors) == 7 * 2 * tiny.SIZES["num_hidden_layers"]
    down = tensors["base_model.model.model.layers.2.mlp.down_proj.lora_A.weight"]
    assert down.shape == (RANK, tiny.SIZES["intermediate_size"])
    assert peft.PeftConfig.from_pretrained(exported["lora peft"]).task_type == "CAUSAL_LM"


def test_another_dtype_is_rounded_once_and_named(world: Path, exporter: Binary, exported, tmp_path: Path) -> None:
    output = tmp_path / "half"
    flags = (f"--workdir={world / 'lora' / 'run'}", "--format=merged", f"--output={output}", "--dtype=bfloat16")
    assert exporter(*flags)[0] == 0
    half, whole = load_file(output / "model.safetensors"), load_file(exported["lora merged"] / "model.safetensors")
    assert half.keys() == whole.keys()
    for name, values in half.items():
        np.testing.assert_array_equal(values, whole[name].astype(values.dtype))
        assert values.dtype.name == "bfloat16"
    assert transformers.AutoModelForCausalLM.from_pretrained(output).dtype == torch.bfloat16


# --------------------------------------------------------------- real weights


@pytest.mark.real_weights
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_real_weights_with_adapters(name: str, request, tmp_path: Path) -> None:
    """Random adapters on a GGUF base: our distributions, and those of transformers' model with PEFT's adapters."""
    pretrained = open_pretrained(str(request.getfixturevalue(f"{name}_gguf")))
    mesh = make_mesh(1, 1, 1)
    abstract = abstract_model(pretrained.config, RANK, ("q", "v", "down"))
    model = load_model(pretrained, abstract, mesh, frozen_dtype="float32", trainable=LoraParam, seed=0)
    graphdef, train, frozen = nnx.split(model, LoraParam, ...)
    rng = np.random.default_rng(0)
    train = jax.tree.map(lambda x: jax.numpy.asarray(rng.normal(0, 0.03, x.shape), "float32"), train)
    trained = {".".join(map(str, path)): np.asarray(v.get_value()) for path, v in nnx.to_flat_state(train)}
    write_adapter(pretrained, trained, ALPHA / RANK, tmp_path, "base", None)
    export.write_metadata_files(pretrained, tmp_path)

    prompter = Prompter(pretrained.tokenizer(), "question_first")
    answers = read_answers(Config(data=DataConfig(tables=("demo",))))
    prompts = spread(encode(prompter, answers[::40], 120, drop_long=True), 20)
    options = max(len(p.answer.options) for p in prompts)
    letters = prompter.letters([prompter.text(prompts[0].answer)], options)
    config = Config(batch=BatchConfig(batch_size=2, seq_len=384, answers_per_seq=8))
    shape = batch_shape(config, prompts, options)
    step_config = StepConfig(pretrained.config, Numerics(lora_scale=ALPHA / RANK))
    ours = our_logits(Model(mesh, graphdef, train, frozen, step_config, shape), prompts, letters)
    reference = request.getfixturevalue(f"{name}_torch")
    untrained = their_logits(reference, prompts[-4:], letters)
    adapted = peft.PeftModel.from_pretrained(reference, tmp_path)
    try:
        theirs = their_logits(adapted.eval(), prompts, letters)
    finally:
        adapted.unload()
    difference = np.abs(softmax(ours, axis=1) - softmax(theirs, axis=1)).max()
    moved = np.abs(softmax(untrained, axis=1) - softmax(theirs[-4:], axis=1)).max()
    print(f"{name}: max |difference| {difference:.1e} on {len(prompts)} prompts; the adapters' own effect {moved:.2f}")
    assert len(prompts) == 20
    assert difference < 1e-4
    assert moved > 0.05
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [prompter.text(p.answer) for p in prompts]
    assert tokenizer(texts)["input_ids"] == [p.tokens.tolist() for p in prompts]
    read, _ = decoder_config(transformers.AutoConfig.from_pretrained(tmp_path).to_dict(), "exported")
    assert read == pretrained.config


# ----------------------------------------------------------------- bad input


def refuse(exporter: Binary, workdir: Path, output: Path, *named: str, form: str = "merged", step: str = "best"):
    """The export is refused, and nothing is there that was not."""
    before = contents(output.parent)
    result = exporter(f"--workdir={workdir}", f"--format={form}", f"--output={output}", f"--step={step}")
    check_refusal(result, *named)
    assert contents(output.parent) == before


def test_refusals(world: Path, exporter: Binary, exported, tmp_path: Path) -> None:
    run, output = world / "lora" / "run", tmp_path / "out"
    refuse(exporter, tmp_path / "none", output, "none: no run here")
    refuse(exporter, run, output, "--step=5: ", f"has best, last and {STEPS}", step="5")
    refuse(exporter, world / "full" / "run", output, "trained all weights", "--format=merged", form="peft")
    refuse(exporter, run, exported["lora peft"], f"--output={exported['lora peft']}: exists already")
    refuse(exporter, run, output, "value should be one of <merged|peft>", form="onnx")
    check_refusal(exporter(f"--workdir={run}", f"--output={output}"), "--format must be given: <merged|peft>: A whole")
    (tmp_path / "file").write_text("")
    refuse(exporter, run, tmp_path / "file" / "out", "cannot be used")
    output.mkdir()  # an empty folder is fine
    assert exporter(f"--workdir={run}", "--format=peft", f"--output={output}")[0] == 0


def test_base_weights_that_are_gone_or_others(world: Path, exporter: Binary, tmp_path: Path) -> None:
    run, model = world / "lora" / "run", world / "lora" / "model"
    moved = model.rename(tmp_path / "moved")
    try:
        refuse(exporter, run, tmp_path / "out", f"{model}: no such weights")
        tiny.write_model(model, FAMILIES["lora"], seed=1)
        refuse(exporter, run, tmp_path / "out", "another base model")
    finally:
        shutil.rmtree(model, ignore_errors=True)
        moved.rename(model)


def test_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0\.0 GB free"):
        ShardWriter(tmp_path, {"x": ((10**10,), np.dtype("float32"))})
    assert not list(tmp_path.iterdir())


# --------------------------------------------------- shards, fused and tied tensors


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    """Tensors are read and written a few rows at a time."""
    monkeypatch.setattr(export, "_BLOCK", 150)


def test_shards_have_an_index_that_transformers_follows(tmp_path: Path, small_blocks) -> None:
    base = tiny.write_model(tmp_path / "base")
    pretrained, limit = open_pretrained(str(base)), 50_000
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 32, RANK)), rng.normal(size=(3, RANK, 64))
    trained = {"blocks.q_lora_a": a.astype(np.float32), "blocks.q_lora_b": b.astype(np.float32)}
    out = tmp_path / "out"
    out.mkdir()
    files = export.write_merged(pretrained, trained, 0.5, out, shard_bytes=limit)
    export.write_metadata_files(pretrained, out)
    assert files == [f"model-{i:05}-of-{len(files):05}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) > 3

    expected = load_file(base / "model.safetensors")
    for layer in range(3):
        expected[f"model.layers.{layer}.self_attn.q_proj.weight"] += 0.5 * (a[layer] @ b[layer]).T.astype(np.float32)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in expected.values())
    found = {}
    for file in files:
        tensors = load_file(out / file)
        assert sum(x.nbytes for x in tensors.values()) <= limit or len(tensors) == 1
        assert {name for name, place in index["weight_map"].items() if place == file} == set(tensors)
        found |= tensors
    assert set(found) == set(expected)
    model = transformers.AutoModelForCausalLM.from_pretrained(out).state_dict()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
        np.testing.assert_array_equal(model[name], found[name])


def test_an_incomplete_tensor_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="incomplete"),
        ShardWriter(tmp_path, {"x": ((4, 2), np.dtype("float32"))}) as out,
    ):
        out.write("x", np.zeros((2, 2)), first_row=2)


PHI = {
    "model_type": "phi3",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FUSED = LLAMA.with_entries(
    {
        "blocks.q": Tensor("model.layers.{}.self_attn.qkv_proj.weight", transposed=True, rows=(0, 32)),
        "blocks.k": Tensor("model.layers.{}.self_attn.qkv_proj.weight", transposed=True, rows=(32, 48)),
        "blocks.v": Tensor("model.layers.{}.self_attn.qkv_proj.weight", transposed=True, rows=(48, 64)),
        "blocks.gate": Tensor("model.layers.{}.mlp.gate_up_proj.weight", transposed=True, rows=(0, 48)),
        "blocks.up": Tensor("model.layers.{}.mlp.gate_up_proj.weight", transposed=True, rows=(48, 96)),
    }
)


def fused_model(folder: Path) -> Pretrained:
    """transformers' Phi-3, tiny, under names that put q, k, v and gate, up into its fused tensors."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(transformers.Phi3Config(**PHI)).save_pretrained(folder)
    config, _ = decoder_config(PHI | {"model_type": "llama", "rms_norm_eps": 1e-5}, "phi")
    return Pretrained(folder, config, FUSED, SafetensorsDirectory(folder))


def test_fused_projections(tmp_path: Path, small_blocks) -> None:
    """Adapters on q, v (not k), gate, up and down: merged by us, merged by PEFT, and by hand."""
    pretrained = fused_model(tmp_path / "base")
    rng = np.random.default_rng(0)
    sizes = {"q": (32, 32), "v": (32, 16), "gate": (32, 48), "up": (32, 48), "down": (48, 32)}
    trained = {}
    for name, (fan_in, fan_out) in sizes.items():
        trained[f"blocks.{name}_lora_a"] = rng.normal(size=(2, fan_in, RANK)).astype(np.float32)
        trained[f"blocks.{name}_lora_b"] = rng.normal(size=(2, RANK, fan_out)).astype(np.float32)
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    merged.mkdir()
    adapter.mkdir()
    export.write_merged(pretrained, trained, 0.25, merged)
    export.write_metadata_files(pretrained, merged)
    write_adapter(pretrained, trained, 0.25, adapter, str(pretrained.path), None)

    base = load_file(pretrained.path / "model.safetensors")
    ours = load_file(merged / "model.safetensors")
    assert set(ours) == set(base)
    for layer in range(2):
        update = {n: 0.25 * trained[f"blocks.{n}_lora_a"][layer] @ trained[f"blocks.{n}_lora_b"][layer] for n in sizes}
        by_hand = {
            "self_attn.qkv_proj": np.concatenate([update["q"], np.zeros((32, 16)), update["v"]], axis=1),
            "mlp.gate_up_proj": np.concatenate([update["gate"], update["up"]], axis=1),
            "mlp.down_proj": update["down"],
            "self_attn.o_proj": np.zeros((32, 32)),
        }
        for module, change in by_hand.items():
            name = f"model.layers.{layer}.{module}.weight"
            np.testing.assert_allclose(ours[name], base[name] + change.T, atol=1e-5)

    theirs = load(adapter, pretrained.path).merge_and_unload().state_dict()
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name].numpy(), values, atol=1e-5)


def test_fully_trained_fused_projections(tmp_path: Path, small_blocks) -> None:
    pretrained = fused_model(tmp_path / "base")
    shapes = {"q": 32, "k": 16, "v": 16}
    trained = {f"blocks.{n}": np.full((2, 32, rows), i, np.float32) for i, (n, rows) in enumerate(shapes.items())}
    out = tmp_path / "out"
    out.mkdir()
    export.write_merged(pretrained, trained, 0.0, out)
    fused = load_file(out / "model.safetensors")["model.layers.1.self_attn.qkv_proj.weight"]
    np.testing.assert_array_equal(fused, np.repeat([0, 1, 2], [32, 16, 16])[:, None] * np.ones((1, 32)))


def test_fully_trained_experts(tmp_path: Path, small_blocks) -> None:
    pretrained = open_pretrained(str(tiny.write_model(tmp_path / "base", "mixtral")))
    gate = np.random.default_rng(0).normal(size=(3, 4, 32, 64)).astype(np.float32)
    out = tmp_path / "out"
    out.mkdir()
    export.write_merged(pretrained, {"blocks.expert_gate": gate}, 0.0, out)
    written = load_file(out / "model.safetensors")
    for layer, expert in np.ndindex(3, 4):
        name = f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight"
        np.testing.assert_array_equal(written[name], gate[layer, expert].T)


def test_fully_trained_experts_that_are_fused_along_columns(tmp_path: Path, small_blocks) -> None:
    """Llama 4's, in the second and fourth of four layers; `up`, beside `gate`, stays."""
    pretrained = open_pretrained(str(tiny.write_model(tmp_path / "base", "llama4")))
    gate = np.random.default_rng(0).normal(size=(2, 4, 32, 64)).astype(np.float32)
    out = tmp_path / "out"
    out.mkdir()
    export.write_merged(pretrained, {"blocks_1.expert_gate": gate}, 0.0, out)
    base, written = (load_file(folder / "model.safetensors") for folder in (pretrained.path, out))
    for place, layer in enumerate((1, 3)):
        name = f"model.layers.{layer}.feed_forward.experts.gate_up_proj"
        both = np.concatenate([gate[place], base.pop(name)[..., 64:]], axis=-1)
        np.testing.assert_array_equal(written.pop(name), both)
    for name, values in base.items():
        np.testing.assert_array_equal(written[name], values)


def test_text_part_of_a_model_with_vision(tmp_path: Path) -> None:
    """The vision part stays as it is, though its projections have the same names."""
    text = tiny.SIZES | {"num_hidden_layers": 2, "sliding_window": 24, "vocab_size": 320}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    both = transformers.Gemma3Config(text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14})
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    adapter.mkdir()
    merged.mkdir()
    transformers.Gemma3ForConditionalGeneration(both).save_pretrained(base)
    source = SafetensorsDirectory(base)
    embedding = next(name for name in source.names if name.endswith("embed_tokens.weight"))
    prefix = embedding.removesuffix("embed_tokens.weight")
    config, weight_map = decoder_config(text | {"model_type": "gemma3_text"}, "text part")
    renamed = {
        ours: dataclasses.replace(at, name=at.name.replace("model.", prefix, 1))
        for ours, at in weight_map.entries.items()
    }
    pretrained = Pretrained(base, config, weight_map.with_entries(renamed), source)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 32, RANK)).astype(np.float32), rng.normal(size=(2, RANK, 64)).astype(np.float32)
    trained = {"blocks.q_lora_a": a, "blocks.q_lora_b": b}
    write_adapter(pretrained, trained, 1.0, adapter, str(base), None)
    export.write_merged(pretrained, trained, 1.0, merged)
    export.write_metadata_files(pretrained, merged)

    theirs = load(adapter, base).merge_and_unload().state_dict()
    ours = load(merged, merged).state_dict()
    before = transformers.AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = {name for name in before if not torch.equal(before[name], ours[name])}
    assert changed == {f"model.language_model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    assert any("vision" in name and "q_proj" in name for name in before)
    for name, values in ours.items():
        torch.testing.assert_close(theirs[name], values, atol=1e-5, rtol=0)


def test_a_trained_embedding_is_the_tied_head_too(tmp_path: Path) -> None:
    """Some files hold the tied head as well; transformers would not tie two that differ."""
    base = tiny.write_model(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, base / "model.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    new = np.ones_like(tensors["lm_head.weight"])
    export.write_merged(open_pretrained(str(base)), {"embedding": new}, 0.0, out)
    found = load_file(out / "model.safetensors")
    np.testing.assert_array_equal(found["lm_head.weight"], new)
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], new)
