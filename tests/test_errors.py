"""Bad input: exit code 2, one line that names the culprit, and nothing half-written.

A process of a binary takes seconds to start, so most cases go through one process of each, `binaries.serve`, that calls
what the binary calls again and again. A few cases start the binary itself.
"""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from binaries import ENVIRONMENT, Binary, check_refusal, contents
from gguf_files import write_gguf
from places import ROOT
from survey_jax.checkpointing.lock import only_training
from tiny import GROUPS, rows, write_config, write_model, write_rows

ENVIRONMENT |= {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def train() -> Iterator[Binary]:
    binary = Binary("survey_jax.train")
    yield binary
    binary.process.communicate()


@pytest.fixture(scope="module")
def evaluate() -> Iterator[Binary]:
    binary = Binary("survey_jax.eval")
    yield binary
    binary.process.communicate()


@dataclasses.dataclass
class World:
    """What a run needs, and where one may write."""

    folder: Path
    model: Path
    table: Path
    config: Path

    def variant(self, name: str, old: str, new: str) -> Path:
        """The config file with one change."""
        text = self.config.read_text()
        assert old in text
        return self.write(name, text.replace(old, new))

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def copy_model(self, name: str) -> Path:
        return shutil.copytree(self.model, self.folder / name)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    model, table = write_model(folder / "model"), write_rows(folder / "table.jsonl", rows())
    return World(folder, model, table, write_config(folder, model, table, optim__steps="2", run__eval_every="2"))


@pytest.fixture(scope="module")
def finished(world, train) -> Path:
    """The folder of a short run."""
    workdir = world.folder / "finished"
    code, stderr = train(f"--config={world.config}", f"--workdir={workdir}")
    assert code == 0, stderr
    return workdir


def check_train_refuses(train: Binary, world: World, arguments: list[str], *named: str) -> None:
    """Refused before there is a folder of the run."""
    workdir = world.folder / "new"
    check_refusal(train(*arguments, f"--workdir={workdir}"), *named)
    assert not workdir.exists()


# --- the binaries themselves


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--config={config}", "--config.optim.lrr=1"], "lrr"),
        (["train", "--config={config}", "--config.model.weights=/no/weights"], "/no/weights: no such weights"),
        (["eval", "--workdir={folder}/new"], "new: no run here"),
    ],
)
def test_binary(world, arguments, named):
    binary, *flags = [a.format(config=world.config, folder=world.folder) for a in arguments]
    command = [sys.executable, "-m", f"survey_jax.{binary}", *flags]
    before = contents(world.folder)
    result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    check_refusal((result.returncode, result.stderr), named)
    assert contents(world.folder) == before


# --- flags and config files


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--config.optim.lrr=1"], "lrr"),
        (["--config.opti.lr=1"], "opti"),
        (["--config.optim.steps=abc"], "config.optim.steps=abc"),
        (["--config.optim.steps=0"], "config.optim.steps = 0"),
        (["--config.model.dtype=float8"], "config.model.dtype = 'float8'"),
        (["--config.lora.projections=('q','z')"], "config.lora.projections = ('q', 'z'): must be a tuple of q, k"),
        (["--config.mesh.data=3"], "data=3"),
        (["--config.data.splits.max_rows=-1"], "max_rows"),
        (["--config.optim.loss=wasserstein", "--config.data.option_order=shuffled"], "needs options in scale order"),
        (["--config.lora.dropout=0.1", "--config.lora.rank=0"], "leaves out ranks of adapters"),
        (["--config.model.weights=az://b/w"], "az://b/w: must be gs://BUCKET/NAME, s3://BUCKET/NAME or a local path"),
        (["--confg.optim.lr=1"], "confg"),
        (["--config.optimizer.lr=1"], "--config.optimizer.lr: no such setting; did you mean --config.optim.lr?"),
        (["--config.qqq=1"], "--config.qqq: no such setting"),
        (["--config.batch.batch_size=1000000000"], "config.batch.batch_size = 1000000000: must be at most 1,048,576"),
        (["--config.batch.seq_len=1000000000"], "config.batch.seq_len = 1000000000: must be at most"),
        (["--config.batch.microbatches=1000000000"], "config.batch.microbatches = 1000000000: must be at most"),
        (["--config.batch.batch_size=1000000", "--config.batch.microbatches=1000000"], "would take"),
        (["--config.lora.rank=1000000"], "config.lora.rank = 1000000: must be at most 16,384"),
        (["--config.mesh.data=1000000000"], "data=1000000000"),
        (["--config.mesh.devices=1000000000"], "config.mesh.devices = 1000000000, and there are 1"),
        (["--config.optim.steps=10000000000"], "config.optim.steps = 10000000000: must be less than 2,147,483,648"),
        ([f"--config.data.splits.unseen_groups={'[' * 10_000}"], "write a dictionary"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_bad_flag(train, world, flags, named):
    check_train_refuses(train, world, [f"--config={world.config}", *flags], named)


def a_file(folder: Path) -> Path:
    (folder / "in the way").touch()
    return folder / "in the way"


def a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "at all")
    return folder / "link"


PLACES = {
    "a file": a_file,
    "a dangling link": a_dangling_link,
    "too long": lambda folder: folder / ("x" * 300),
    "read-only": lambda _: Path("/proc/x"),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_unusable_workdir_is_found_before_weights_are_read(train, world, tmp_path, name):
    place = PLACES[name](tmp_path)
    before = contents(tmp_path)
    result = train(f"--config={world.config}", f"--workdir={place}", "--config.model.weights=/no/weights")
    check_refusal(result, f"--workdir={place}: cannot be used (")
    assert contents(tmp_path) == before


def test_an_empty_workdir(train, evaluate, world):
    check_refusal(train(f"--config={world.config}", "--workdir="), "--workdir is empty")
    check_refusal(evaluate("--workdir="), "--workdir is empty")


def test_control_characters_of_a_flag_stay_out_of_the_terminal(train, world, finished):
    code, stderr = train(f"--config={world.config}", "--config.data.tables=/no/\x1b[2J\x07.jsonl")
    check_refusal((code, stderr), r"/no/\x1b[2J\x07.jsonl: no such file")
    assert "\x1b" not in stderr


def test_no_config(train, world):
    check_train_refuses(train, world, [], "--config", "get_config()")


CONFIG_FILES = {
    "typo": ("lr=1e-2", "lrr=1e-2", "unexpected keyword argument 'lrr'; did you mean lr?"),
    "typo later": ("return c", "c.optim.lrate = 5\n    return c", "no attribute 'lrate'; did you mean lr?"),
    "typo of splits": ("valid_questions=", "valid_question=", "; did you mean valid_questions?"),
    "older name": ("batch_size=2", "rows=2", "'rows'; the settings there are batch_size, seq_len, "),
    "older module": (
        "splits.config import",
        "splits import",
        "did you mean `from survey_jax.survey.splits.config import",
    ),
    "leaves": ("return c", "raise SystemExit('gone')", "gone"),
    "type": ("lr=1e-2", "lr='x'", "config.optim.lr = 'x': must be float, not str"),
    "name": ("optim=OptimConfig", "optim=OptmConfig", "'OptmConfig' is not defined"),
    "syntax": ("def get_config():", "def get_config(:", "invalid syntax"),
    "import": ("def get_config():", "import no_such_module\ndef get_config():", "no_such_module"),
    "absent": ("def get_config():", "def config():", "get_config"),
    "none": ("return c", "c", "get_config()"),
    "dict": ("return c", "return {}", "get_config() must return a survey_jax.config.Config, got dict"),
    "raises": ("return c", "raise RuntimeError('one\\ntwo')", "one two"),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_bad_config_file(train, world, name):
    old, new, named = CONFIG_FILES[name]
    check_train_refuses(train, world, [f"--config={world.variant(f'{name}_config.py', old, new)}"], named)


@pytest.mark.parametrize("override", [[], ["--config.optim.lr=1"]])
def test_missing_config_file(train, world, override):
    missing = world.folder / "missing_config.py"
    check_train_refuses(train, world, [f"--config={missing}", *override], f"{missing}: no such file")


# --- weights


def truncate(file: Path, size: int) -> Path:
    file.write_bytes(file.read_bytes()[:-size])
    return file


def bad_weights(name: str, world: World) -> tuple[str | Path, tuple[str, ...]]:
    """(weights, what the message names)."""
    if name == "missing gguf":
        return world.folder / "no.gguf", ("no.gguf: no such weights", "survey_jax.fetch")
    if name == "missing directory":
        return world.folder / "nowhere", ("nowhere: no such weights",)
    if name == "hub id without network":
        return "nobody/nothing-at-all", ("nobody/nothing-at-all", "--local-dir")
    if name == "truncated gguf":
        return truncate(write_gguf(world.folder / "short.gguf"), 100), ("short.gguf: truncated",)
    if name == "gguf of another architecture":
        return write_gguf(world.folder / "t5.gguf", "t5"), ("t5.gguf", "architecture 't5' is not supported")
    if name == "no gguf":
        return world.write("text.gguf", "once upon a time"), ("text.gguf: not a GGUF file",)
    if name == "empty directory":
        (world.folder / "void").mkdir()
        return world.folder / "void", ("void: has no config.json",)
    model = world.copy_model(name.replace(" ", "_"))
    config, weights = model / "config.json", model / "model.safetensors"
    if name == "truncated safetensors":
        truncate(weights, 1000)
        return model, (f"{weights}: truncated or corrupt",)
    if name == "no safetensors":
        weights.rename(model / "pytorch_model.bin")
        return model, (str(model), "pickle", "pytorch_model.bin")
    if name == "missing tensor":
        change_config(config, num_hidden_layers=4)
        return model, (str(model), "model.layers.3.", "is missing")
    if name == "spare tensor":
        change_config(config, num_hidden_layers=2)
        return model, (str(model), "model.layers.2.", "not supported")
    if name == "other shape":
        change_config(config, intermediate_size=65)
        return model, (str(model), "mlp.", "its config says")
    if name == "other architecture":
        change_config(config, model_type="bert")
        return model, (f"{config}: architecture 'bert' is not supported",)
    if name == "missing field":
        change_config(config, hidden_size=None)
        return model, (f"{config}: field 'hidden_size' is missing",)
    if name == "too many layers":
        change_config(config, num_hidden_layers=10**12)
        return model, (f"{config}: num_hidden_layers = 1000000000000 is not supported",)
    if name == "a text for a flag":
        change_config(config, attention_bias="false")
        return model, (f"{config}: attention_bias = 'false' is not supported (it must be true or false)",)
    if name == "a field twice":
        config.write_text(config.read_text()[:-1] + ', "hidden_size": 64}')
        return model, (f"{config}: not JSON (the name 'hidden_size' is there twice)",)
    if name == "shards elsewhere":
        weights.rename(world.folder / "elsewhere.safetensors")
        index = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        return model, ("places model.norm.weight outside of this folder",)
    if name == "NaN":
        put_nan(weights)
        return model, (f"{model}: tensor {NAN} holds NaN or infinity",)
    if name == "tokens beyond the embedding":
        file = model / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        tokenizer["model"]["vocab"] = {token: 1000 + i for token, i in tokenizer["model"]["vocab"].items()}
        file.write_text(json.dumps(tokenizer))
        return model, (f"tokenizer {model}: token ", " has id 10", "the model has only 320 embeddings")
    if name == "tokenizer of another shape":
        (model / "tokenizer.json").write_text("{}")
        return model, (f"{model}: has no tokenizer that transformers can load",)
    if name == "config is not JSON":
        config.write_text("{")
        return model, (f"{config}: not JSON",)
    assert name == "no tokenizer"
    for file in model.glob("*token*"):
        file.unlink()
    return model, (str(model), "tokenizer")


NAN = "model.layers.1.mlp.up_proj.weight"


def put_nan(weights: Path) -> None:
    tensors = load_file(weights)
    tensors[NAN][3, 4] = np.nan
    save_file(tensors, weights)


def change_config(file: Path, **changes) -> None:
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    "name",
    [
        "missing gguf",
        "missing directory",
        "hub id without network",
        "truncated gguf",
        "gguf of another architecture",
        "no gguf",
        "empty directory",
        "truncated safetensors",
        "no safetensors",
        "missing tensor",
        "spare tensor",
        "other shape",
        "other architecture",
        "missing field",
        "too many layers",
        "a text for a flag",
        "a field twice",
        "shards elsewhere",
        "NaN",
        "tokens beyond the embedding",
        "tokenizer of another shape",
        "config is not JSON",
        "no tokenizer",
    ],
)
def test_bad_weights(train, world, name):
    weights, named = bad_weights(name, world)
    check_train_refuses(train, world, [f"--config={world.config}", f"--config.model.weights={weights}"], *named)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% for x in %}", "fails: Expected an expression"),
        ("{{ raise_exception('no') }}", "fails: no"),
        ("hello", "leaves out or changes what is asked"),
    ],
)
def test_bad_chat_template(train, world, template, named):
    model = world.folder / "chat"
    shutil.copytree(world.model, model, dirs_exist_ok=True)
    (model / "chat_template.jinja").write_text(template)
    arguments = [f"--config={world.config}", f"--config.model.weights={model}", "--config.data.chat=True"]
    check_train_refuses(train, world, arguments, f"data.chat: the chat template of {model} {named}")


def test_a_base_model_with_nan_is_not_evaluated(evaluate, world):
    model, workdir = world.copy_model("with_nan"), world.folder / "nowhere_yet"
    put_nan(model / "model.safetensors")
    flags = [f"--config={world.config}", f"--config.model.weights={model}", "--zero_shot", f"--workdir={workdir}"]
    check_refusal(evaluate(*flags), f"{model}: tensor {NAN} holds NaN or infinity")
    assert not workdir.exists()


def test_a_chat_that_tells_the_date_goes_on_after_midnight(train, world):
    model, workdir = world.copy_model("dated"), world.folder / "dated_run"
    template = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    command = [f"--config={world.config}", f"--config.model.weights={model}", "--config.data.chat=True"]
    command.append(f"--workdir={workdir}")
    assert train(*command, "--config.data.chat_date=2024-02-29", "--config.optim.steps=1") == (0, "")
    assert train(*command) == (0, "")  # today
    assert json.loads((workdir / "config.json").read_text())["data"]["chat_date"] == "2024-02-29"
    check_refusal(train(*command, "--config.data.chat_date=2024-03-01"), "another tokenizer or chat template")


# --- tables

BAD_ROWS = {
    "negative": ({"counts": [3, -1, 2]}, "counts holds the negative value -1"),
    "nan": ({"counts": [3, float("nan"), 2]}, "counts holds nan"),
    "equal options": ({"options": ["a", "b", "a"]}, "two equal options: 'a'"),
    "half a character": ({"topic": "t\ud800"}, "topic holds half a character"),
    "more respondents than there are": ({"n": 1e308}, "n must be at least"),
    "lengths": ({"counts": [3, 1]}, "counts has 2 values for 3 options"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row(train, world, name):
    changes, named = BAD_ROWS[name]
    values = rows()
    values[10] |= {"options": ["a", "b", "c"], "counts": [3, 1, 2]} | changes
    table = write_rows(world.folder / "bad.jsonl", values)
    arguments = [f"--config={world.config}", f"--config.data.tables={table}"]
    check_train_refuses(train, world, arguments, f"{table} row 11: {named}", "config.data.drop_bad=True")


def test_bad_scale_points(train, world):
    values = rows()
    values[1] |= {"ordinal_values": [1, "two"]}
    table = write_rows(world.folder / "points.jsonl", values)
    arguments = [f"--config={world.config}", f"--config.data.tables={table}"]
    check_train_refuses(train, world, arguments, "ordinal_values [1, 'two'] are not 2 values in order: Tiny / q0")


def test_missing_table(train, world):
    table = world.folder / "no.jsonl"
    check_train_refuses(train, world, [f"--config={world.config}", f"--config.data.tables={table}"], str(table))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('unseen_questions=("q1", "q6")', 'unseen_questions=("q99",)', "unknown question id 'q99'"),
        ('("Peru",)', str(tuple(GROUPS)), "split train has no rows"),
        ('valid_questions=("q3",)', "", "no validation rows"),
    ],
)
def test_empty_split(train, world, old, new, named):
    check_train_refuses(train, world, [f"--config={world.variant('split_config.py', old, new)}"], named)


def test_long_prompt(train, world):
    arguments = [f"--config={world.config}", "--config.batch.seq_len=50"]
    check_train_refuses(train, world, arguments, "Tiny / q0 / country=Kenya", "batch.seq_len")


# --- runs that exist, and are left as they are


@pytest.fixture
def other_weights(world, finished) -> Iterator[None]:
    """Other weights where the run's were."""
    file, aside = world.model / "model.safetensors", world.folder / "aside"
    other = write_model(world.folder / "other_model", seed=1) / file.name
    os.replace(file, aside)
    os.replace(other, file)
    yield
    os.replace(aside, file)


@pytest.fixture
def other_table(world, finished) -> Iterator[None]:
    """Other answers where the run's were."""
    before = world.table.read_text()
    write_rows(world.table, rows(seed=1))
    yield
    world.table.write_text(before)


def check_left_alone(finished: Path, before: dict[Path, bytes | None]) -> None:
    after = contents(finished)
    assert after.keys() == before.keys()
    assert [path for path in before if before[path] != after[path]] == []


@pytest.mark.usefixtures("other_weights")
def test_run_of_another_base_model(train, evaluate, world, finished):
    before = contents(finished)
    result = train(f"--config={world.config}", f"--workdir={finished}")
    check_refusal(result, str(finished), "another base model", "--workdir")
    check_refusal(evaluate(f"--workdir={finished}"), str(finished), "another base model")
    check_left_alone(finished, before)


@pytest.mark.usefixtures("other_table")
def test_run_on_other_data(train, world, finished):
    before = contents(finished)
    result = train(f"--config={world.config}", f"--workdir={finished}")
    check_refusal(result, str(finished), "another training set", "--workdir")
    check_left_alone(finished, before)


@pytest.mark.usefixtures("other_table")
def test_evaluation_on_other_training_rows(evaluate, world, finished):
    before = contents(finished)
    check_refusal(evaluate(f"--workdir={finished}"), str(finished), "another training set")
    check_left_alone(finished, before)


def test_run_with_another_setting(train, world, finished):
    before = contents(finished)
    result = train(f"--config={world.config}", "--config.optim.lr=0.5", f"--workdir={finished}")
    check_refusal(result, str(finished), "config.optim.lr = 0.01, now 0.5", "--workdir")
    check_left_alone(finished, before)


@pytest.mark.parametrize("flag", ["lora.rank=8", "lora.projections=('q','v')"])
def test_run_with_other_adapters(train, world, finished, flag):
    before = contents(finished)
    result = train(f"--config={world.config}", f"--config.{flag}", f"--workdir={finished}")
    check_refusal(result, str(finished), "rank")
    check_left_alone(finished, before)


def test_run_on_a_quantised_base(train, world, finished):
    before = contents(finished)
    result = train(f"--config={world.config}", "--config.model.quantize=int8", f"--workdir={finished}")
    check_refusal(result, str(finished), "another base model (fingerprint ", " int8); choose another --workdir")
    check_left_alone(finished, before)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--step=7"], "--step=7: "),
        (["--step=first"], "--step=first: "),
        (["--data=/no/table.jsonl"], "/no/table.jsonl: no such file"),
        (["--data=/no/table.xls"], "/no/table.xls: not a survey table"),
        (["--zero_shoot"], "zero_shoot"),
        (["--name=../../x"], "--name=../../x: must be the name of a folder under WORKDIR/eval, not a path"),
        (["--name=/tmp/x"], "--name=/tmp/x: must be the name"),
        (["--name=.."], "--name=..: must be the name"),
        (["--name=.predictions"], "--name=.predictions: must be the name"),
        (["--name="], "--name=: must be the name"),
        (["--name=a\x1bb"], r"--name=a\x1bb: must be the name"),
        ([f"--name={'x' * 300}"], "File name too long"),
        (["--output="], "--output is empty"),
        (["--output=/proc/x"], "--output=/proc/x/results: cannot be used ("),
        (["--controls=orders:1000000000"], "'orders:1000000000' is no control; choose from "),
        (["--batch_size=1000000000"], "config.batch.batch_size = 1000000000: must be at most 1,048,576"),
        (["--mesh=fsdp:1000000000"], "--mesh=fsdp:1000000000: "),
        (["--mesh=fsdp:100000000"], "fsdp=100000000 x tensor=1 x expert=1 does not cover the 1 devices here"),
        (["--mesh=fsdp:--1"], "'fsdp:--1' is not one of data, fsdp, tensor, expert and a number"),
    ],
)
def test_bad_evaluation(evaluate, finished, flags, named):
    before = contents(finished)
    check_refusal(evaluate(f"--workdir={finished}", *flags), named)
    check_left_alone(finished, before)


@pytest.mark.parametrize(
    "config",
    [False, True],
)
def test_evaluation_without_a_run(evaluate, world, config, tmp_path):
    workdir = tmp_path / "new"
    flags = [f"--config={world.config}"] if config else []
    check_refusal(evaluate(f"--workdir={workdir}", *flags), str(workdir))
    assert not workdir.exists()


def test_run_whose_config_is_broken(evaluate, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["optim"] |= {"lrr": 1}
    (copy / "config.json").write_text(json.dumps(config))
    check_refusal(evaluate(f"--workdir={copy}"), str(copy / "config.json"), "unknown setting 'lrr'")


def test_run_whose_config_is_no_json(evaluate, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "config.json").write_text("{")
    check_refusal(evaluate(f"--workdir={copy}"), str(copy / "config.json"))


RUN_FILES = {
    "time.json": ("{}", "time.json: starts: Field required: written by another version of survey_jax"),
    "metrics.jsonl": ('{"step": 1, "loss": "x"}\n', "metrics.jsonl line 1: "),
    "manifest.json": ('{"format": 3}', "manifest.json: id: Field required: written by another version of survey_jax"),
}


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_file_of_another_version(train, world, finished, tmp_path, name):
    copy = shutil.copytree(finished, tmp_path / "copy")
    content, named = RUN_FILES[name]
    (copy / name).write_text(content)
    shutil.rmtree(copy / "checkpoints")  # as of a run that was killed before its first checkpoint
    (copy / "saved.json").unlink()
    before = contents(copy)
    check_refusal(train(f"--config={world.config}", f"--workdir={copy}"), named)
    check_left_alone(copy, before)


def test_a_run_whose_checkpoints_were_removed(train, evaluate, world, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    before = contents(copy)
    result = train(f"--config={world.config}", f"--workdir={copy}")
    check_refusal(result, f"{copy}/checkpoints: its checkpoints are gone", "had saved step 2", "put them back")
    check_left_alone(copy, before)
    (copy / "manifest.json").unlink()
    check_refusal(train(f"--config={world.config}", f"--workdir={copy}"), f"{copy}/manifest.json is missing")
    check_refusal(evaluate(f"--workdir={copy}"), f"{copy}/manifest.json is missing")


def test_a_folder_where_another_training_runs(train, world, finished):
    before = contents(finished)
    with only_training(epath.Path(finished)):
        check_refusal(
            train(f"--config={world.config}", f"--workdir={finished}"),
            f"{finished}: another training runs here: process {os.getpid()} on {socket.gethostname()}",
        )
    check_left_alone(finished, before)
