"""Bad input: exit code 2, one line that names the culprit, and nothing half-written.

A process of a binary takes seconds to start, so most cases go through one process of each, `binaries.serve`, that calls
what the binary calls again and again. A few cases start the binary itself.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from binaries import ENVIRONMENT, Binary, check_refusal, contents
from gguf_files import write_gguf
from places import ROOT
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
        (["--confg.optim.lr=1"], "confg"),
        (["--config.optimizer.lr=1"], "--config.optimizer.lr: no such setting; did you mean --config.optim.lr?"),
        (["--config.qqq=1"], "--config.qqq: no such setting"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_bad_flag(train, world, flags, named):
    check_train_refuses(train, world, [f"--config={world.config}", *flags], named)


def test_no_config(train, world):
    check_train_refuses(train, world, [], "--config", "get_config()")


CONFIG_FILES = {
    "typo": ("lr=1e-2", "lrr=1e-2", "unexpected keyword argument 'lrr'"),
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
    if name == "config is not JSON":
        config.write_text("{")
        return model, (f"{config}: not JSON",)
    assert name == "no tokenizer"
    for file in model.glob("*token*"):
        file.unlink()
    return model, (str(model), "tokenizer")


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
        "config is not JSON",
        "no tokenizer",
    ],
)
def test_bad_weights(train, world, name):
    weights, named = bad_weights(name, world)
    check_train_refuses(train, world, [f"--config={world.config}", f"--config.model.weights={weights}"], *named)


# --- tables

BAD_ROWS = {
    "negative": ({"counts": [3, -1, 2]}, "counts holds the negative value -1"),
    "nan": ({"counts": [3, float("nan"), 2]}, "counts holds nan"),
    "equal options": ({"options": ["a", "b", "a"]}, "two equal options: 'a'"),
    "lengths": ({"counts": [3, 1]}, "counts has 2 values for 3 options"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row(train, world, name):
    changes, named = BAD_ROWS[name]
    values = rows()
    values[10] |= {"options": ["a", "b", "c"], "counts": [3, 1, 2]} | changes
    table = write_rows(world.folder / "bad.jsonl", values)
    arguments = [f"--config={world.config}", f"--config.data.tables={table}"]
    check_train_refuses(train, world, arguments, f"{table} row 11: {named}")


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
