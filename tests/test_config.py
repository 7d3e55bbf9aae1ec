"""Settings: what is refused, with which words, and that a config survives JSON."""

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
import typing

import pytest

from places import ROOT
from survey_jax.common.errors import UserError
from survey_jax.config import (
    BatchConfig,
    Config,
    DataConfig,
    LoraConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    from_dict,
    to_dict,
    validate,
)
from survey_jax.survey.splits.split import SplitConfig

FOLDER = ROOT / "configs"
CONFIGS = sorted(FOLDER.rglob("*.py"))


def minimal() -> Config:
    return Config(model=ModelConfig(weights="w"), data=DataConfig(tables=("t.jsonl",)))


def set_path(config: Config, path: str, value: typing.Any) -> Config:
    *sections, name = path.split(".")
    target = config
    for section in sections:
        target = getattr(target, section)
    assert hasattr(target, name)
    setattr(target, name, value)
    return config


def settings(kind: type = Config, prefix: str = "") -> dict[str, typing.Any]:
    """Path -> type hint of every setting."""
    result: dict[str, typing.Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = dataclasses.is_dataclass(hint)
        result |= settings(hint, f"{prefix}{name}.") if inner else {prefix + name: hint}
    return result


# Values that no setting of the type takes; a bool is no number, a text no list of texts.
WRONG: dict[typing.Any, tuple[typing.Any, ...]] = {
    str: (1, None, ("a",)),
    int: ("1", 1.0, True, None),
    float: ("0.1", False, None, math.nan, math.inf),
    bool: (1, "True", None),
    tuple[str, ...]: ("a", ["a"], (1,), None),
    tuple[int, ...]: (1, [1], ("1",), (1.0,), (True,), None),
    dict[str, str]: ("a", {"a": 1}, {1: "a"}),
    dict[str, tuple[str, ...]]: ({"a": "b"}, {"a": ("b", 1)}, {1: ("b",)}, ("a",)),
}


@pytest.mark.parametrize("path", settings())
def test_wrong_type_is_refused_by_name(path):
    for value in WRONG[settings()[path]]:
        with pytest.raises(UserError) as error:
            validate(set_path(minimal(), path, value))
        assert str(error.value).startswith(f"config.{path} = {value!r}: must be ")


@pytest.mark.parametrize("section", ["model", "lora", "data", "batch", "optim", "mesh", "run", "data.splits"])
def test_section_of_another_kind_is_refused_by_name(section):
    with pytest.raises(UserError, match=rf"^config\.{section} must be a \w+Config, got 'x'$"):
        validate(set_path(minimal(), section, "x"))


BAD = [
    ("model.dtype", "float16", "choose from float32, bfloat16"),
    ("model.quantize", "int4", "choose from '', int8, nf4"),
    ("model.attention", "flash", "choose from dense, two_part, cudnn, splash"),
    ("model.remat", "all", "choose from none, dots, full"),
    ("data.template", "papers", "choose from paper, question_first"),
    ("data.option_order", "random", "choose from listed, reversed, shuffled"),
    ("optim.loss", "mse", "choose from kl, jsd, wasserstein, cross_entropy, paper_kl"),
    ("optim.schedule", "", "choose from cosine, linear, constant"),
    *((f"batch.{f.name}", 0, "must be positive") for f in dataclasses.fields(BatchConfig) if f.default),
    ("batch.answers_per_question", -1, "must not be negative"),
    ("optim.steps", 0, "must be positive"),
    ("optim.lr", 0.0, "must be positive"),
    ("optim.lr", -1e-4, "must be positive"),
    ("optim.clip_norm", 0, "must be positive"),
    ("run.log_every", 0, "must be positive"),
    ("run.eval_every", -1, "must be positive"),
    ("run.keep", 0, "must be positive"),
    ("run.profile", (3,), "the first and last step to trace, of 1 to 200"),
    ("run.profile", (0, 3), "the first and last step to trace"),
    ("run.profile", (5, 4), "the first and last step to trace"),
    ("run.profile", (1, 201), "the first and last step to trace"),
    ("optim.warmup", -1, "must not be negative"),
    ("optim.weight_decay", -0.1, "must not be negative"),
    ("run.seed", -1, "must not be negative"),
    ("run.seed", 2**63, "must be at most"),
    ("optim.lr_end", 1.0, "less than 1"),
    ("optim.b1", 1.0, "less than 1"),
    ("optim.b2", -0.1, "at least 0"),
    ("lora.rank", -1, "must be 0 (full fine-tuning) or more"),
    ("data.tables", (), "name at least one survey table"),
    ("data.question_columns", (), "name at least one column"),
    ("model.weights", "", "give a hub id"),
]


@pytest.mark.parametrize(("path", "value", "remedy"), BAD)
def test_bad_value_is_refused_by_name(path, value, remedy):
    with pytest.raises(UserError) as error:
        validate(set_path(minimal(), path, value))
    assert str(error.value).startswith(f"config.{path} ")
    assert remedy in str(error.value)


def test_whole_numbers_are_numbers_and_limits_belong():
    config = minimal()
    for path, value in {"optim.lr": 1, "optim.weight_decay": 0, "optim.b1": 0, "lora.rank": 0, "run.seed": 0}.items():
        set_path(config, path, value)
    assert validate(config) is config


def everything_changed() -> Config:
    """No setting has its default."""
    return Config(
        model=ModelConfig("m", "v2", "bfloat16", "nf4", "dense", "full", True),
        lora=LoraConfig(4, 8, ("q", "v")),
        data=DataConfig(
            tables=("a.jsonl", "b.parquet"),
            question_columns=("asked", "question"),
            template="paper",
            chat=True,
            language="zh",
            option_order="reversed",
            drop_long=True,
            splits=SplitConfig(
                "paper", "part", {"dev": "valid"}, {"old": ("Peru", "Kenya")}, {"asked": ("q1", "q2")}, "age",
                ("S",), ("T",), ("7",), ("q1",), 0.1, ("Trust",), "theme", {"country": ("Peru", "Kenya"), "age": ()},
                ("Africa",), 10, ("q2",), 0.2, 0.3, 0.9, 5, 6,
            ),
        ),
        batch=BatchConfig(2, 256, 16, 4, 6, 3),
        optim=OptimConfig("jsd", 7, 1e-3, 2, "linear", 0.3, 0.8, 0.99, 0.1, 0.5),
        mesh=MeshConfig(2, 2, 4, 16),
        run=RunConfig(1, 2, 3, 4.0, 5, "", False, (2, 5), "surveys"),
    )  # fmt: skip


def test_a_config_survives_json():
    config = everything_changed()
    plain = [(path, path.split(".")) for path in settings()]
    for path, names in plain:  # so that nothing survives by being the default
        values = [config, Config()]
        for name in names:
            values = [getattr(value, name) for value in values]
        assert values[0] != values[1], path
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == validate(config)
    assert from_dict(json.loads(json.dumps(to_dict(minimal())))) == minimal()
    assert from_dict({}) == Config()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"optim": {"lrr": 1.0}}, r"run\.json\.optim: unknown setting 'lrr'; known: loss, steps"),
        ({"opti": {}}, r"run\.json: unknown setting 'opti'; known: model, lora"),
        ({"data": {"splits": {"sed": 1}}}, r"run\.json\.data\.splits: unknown setting 'sed'"),
        ({"optim": {"lr": "x"}}, r"run\.json\.optim\.lr = 'x': must be float"),
        ({"data": {"tables": "t.jsonl"}}, r"run\.json\.data\.tables = 't\.jsonl': must be tuple"),
        ({"data": {"splits": {"unseen_groups": {"country": "Peru"}}}}, r"run\.json\.data\.splits\.unseen_groups = "),
        ({"optim": 3}, r"run\.json\.optim = 3: must be a JSON object"),
        ([], r"run\.json = \[\]: must be a JSON object"),
    ],
)
def test_bad_json_is_refused_by_name(values, named):
    with pytest.raises(UserError, match=f"^{named}"):
        from_dict(values, where="run.json")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(FOLDER)))
def test_shipped_configs_are_valid(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = validate(module.get_config())
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_shipped_configs_have_names_of_their_own():
    """A run lies in checkpoints/NAME unless --workdir says otherwise."""
    assert len({file.stem for file in CONFIGS}) == len(CONFIGS)


def test_published_configs_work_from_any_folder(tmp_path):
    """What a file imports is found from wherever the command is run, and flags reach its config."""
    script = "from survey_jax import cli\nflag = cli.define_config(required=True)\n"
    script += "cli.run(lambda: print(cli.read_config(flag).optim, cli.default_workdir()))"
    flags = [f"--config={FOLDER / 'paper' / 'llama3_8b_instruct_paper_jsd.py'}", "--config.optim.lr=1e-3"]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, "-c", script, *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "loss='paper_jsd', steps=4280, lr=0.001," in done.stdout
    assert "checkpoints/llama3_8b_instruct_paper_jsd" in done.stdout
