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
    ChatArguments,
    Config,
    DataConfig,
    LoraConfig,
    LossName,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    Projection,
    Remat,
    RunConfig,
    TemplateName,
    from_dict,
    to_dict,
    validate,
)
from survey_jax.config import settings as config_settings
from survey_jax.inputs.prompts import TEMPLATES
from survey_jax.model.architecture import EXPERTS, PROJECTIONS
from survey_jax.model.decoder import REMAT
from survey_jax.model.quantize import KINDS
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.training.losses import LOSSES

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


def plain(hint: typing.Any) -> typing.Any:
    """The Python type behind one that limits its values."""
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return str
    return tuple[str, ...] if hint == tuple[Projection, ...] else hint


def settings() -> dict[str, typing.Any]:
    """Path -> Python type of every setting."""
    return {setting.name.removeprefix("config."): plain(setting.type) for setting in config_settings()}


# Values that no setting of the type takes; a bool is no number, a text no list of texts.
WRONG: dict[typing.Any, tuple[typing.Any, ...]] = {
    str: (1, None, ("a",)),
    int: ("1", 1.0, True, None),
    float: ("0.1", False, None, math.nan, math.inf),
    bool: (1, "True", None),
    tuple[str, ...]: ("a", ["a"], (1,), None),
    tuple[int, ...]: (1, [1], ("1",), (1.0,), (True,), None),
    dict[str, str]: ("a", {"a": 1}, {1: "a"}),
    ChatArguments: ("a", {"a": None}, {"a": ("b",)}, {1: "a"}),
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
    ("model.dtype", "float16", "must be one of float32, bfloat16"),
    ("model.quantize", "int4", "must be one of '', int8, nf4"),
    ("model.attention", "flash", "must be one of dense, two_part, cudnn, splash"),
    ("model.remat", "all", "must be one of none, dots, full"),
    ("data.template", "papers", "must be one of paper, question_first"),
    ("data.option_order", "random", "must be one of listed, reversed, shuffled"),
    ("lora.projections", ("q", "z"), "must be a tuple of q, k, v, o"),
    ("optim.loss", "mse", "must be one of kl, jsd, wasserstein, cross_entropy, paper_kl"),
    ("optim.schedule", "", "must be one of cosine, linear, constant"),
    *((f"batch.{f.name}", 0, "must be positive") for f in dataclasses.fields(BatchConfig) if f.default),
    ("batch.answers_per_question", -1, "must be 0 or more"),
    ("batch.survey_share", 1.5, "must be at least 0 and less than 1"),
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
    ("optim.warmup", -1, "must be 0 or more"),
    ("optim.weight_decay", -0.1, "must be 0 or more"),
    ("run.seed", -1, "must be 0 or more"),
    ("run.seed", 2**63, "less than 9,223,372,036,854,775,808"),
    ("optim.lr_end", 1.0, "less than 1"),
    ("optim.b1", 1.0, "less than 1"),
    ("optim.b2", -0.1, "at least 0"),
    ("lora.rank", -1, "must be 0 or more"),
    ("lora.dropout", 1.0, "less than 1"),
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
        model=ModelConfig("m", "v2", ("note",), "bfloat16", "nf4", "dense", "full", True, "rules"),
        lora=LoraConfig(4, 8, ("q", "v"), 0.2),
        data=DataConfig(
            tables=("a.jsonl", "b.parquet"),
            question_columns=("asked", "question"),
            template="paper",
            chat=True,
            chat_date="2024-02-29",
            chat_arguments={"enable_thinking": False, "style": "plain"},
            language="zh",
            option_order="reversed",
            known_answers=3,
            drop_bad=True,
            drop_long=True,
            splits=SplitConfig(
                "paper", "part", {"dev": "valid"}, {"old": ("Peru", "Kenya")}, {"asked": ("q1", "q2")}, "age",
                ("S",), ("T",), ("7",), ("q1",), 0.1, ("Trust",), "theme", {"country": ("Peru", "Kenya"), "age": ()},
                ("Africa",), 10, True, ("q2",), 0.2, 0.25, 0.3, 0.9, "e.parquet", 5, 6,
            ),
        ),
        batch=BatchConfig(2, 256, 16, 4, 6, 0.5, 3),
        optim=OptimConfig("jsd", 7, 1e-3, 2, "linear", 0.3, 0.8, 0.99, 0.1, 0.5, 2.5, 3, 0.01),
        mesh=MeshConfig(2, 2, 4, 16, 2),
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


def load(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configs_are_valid(file):
    arguments = {
        "published": ["llama3_8b"],
        "mine": ["a.parquet,b.parquet"],
        "all_surveys": ["a.parquet,b.parquet"],
        "large": ["70b,a.parquet,b.parquet"],
    }.get(file.stem, [])
    config = validate(load(file).get_config(*arguments))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("arguments", ["", "8b", "9b,a.parquet"])
def test_a_large_config_without_size_or_tables_is_refused(arguments):
    with pytest.raises(UserError, match=f"configs/large.py:{arguments}: name one of 8b, 70b and your tables"):
        load(FOLDER / "large.py").get_config(arguments)


def test_choices_are_those_of_the_code_that_reads_them():
    choices = {name: typing.get_args(kind) for name, kind in (("loss", LossName), ("template", TemplateName))}
    assert (choices["loss"], choices["template"]) == (tuple(LOSSES), tuple(TEMPLATES))
    assert (typing.get_args(Projection), typing.get_args(Remat)) == ((*PROJECTIONS, *EXPERTS), tuple(REMAT))
    by_name = {setting.name: setting.choices for setting in config_settings()}
    assert by_name["config.model.quantize"] == ("", *KINDS)
    assert by_name["config.data.option_order"] == ("listed", "reversed", "shuffled")


def test_a_setting_that_does_not_exist_cannot_be_assigned():
    for section in (minimal(), *(getattr(minimal(), f.name) for f in dataclasses.fields(Config)), SplitConfig()):
        with pytest.raises(AttributeError):
            section.lrate = 5


def test_every_setting_has_a_comment():
    """`--help` shows it."""
    assert [setting.name for setting in config_settings() if not setting.comment] == []


def test_config_is_quick_to_import_and_needs_no_jax():
    code = "import sys, survey_jax.config; sys.exit(bool({'jax', 'flax', 'numpy', 'transformers'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


PUBLISHED = ("llama3_8b_instruct", "llama3_8b_instruct,paper_jsd", "llama2_7b,wasserstein", "vicuna_13b")


@pytest.mark.parametrize("system", PUBLISHED)
def test_published_systems_are_valid(system):
    config = validate(load(FOLDER / "published.py").get_config(system))
    name, _, loss = system.partition(",")
    assert config.optim.loss == (loss or "kl")
    assert config.data.splits.preset == ("subpop" if name == "llama2_7b" else "paper")


def test_a_published_system_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="choose from llama3_8b, llama3_8b_instruct"):
        load(FOLDER / "published.py").get_config("llama9")


def test_published_configs_work_from_any_folder(tmp_path):
    """What a file imports is found from wherever the command is run, and flags reach its config."""
    script = "from survey_jax import cli\nflag = cli.define_config(required=True)\n"
    script += "cli.run(lambda: print(cli.read_config(flag), cli.default_workdir()))"
    flags = [f"--config={FOLDER / 'published.py'}:llama3_8b_instruct,paper_jsd", "--config.optim.lr=1e-3"]
    flags += ["--config.optim.schedule=constant", "--config.optim.b1=0.5", "--config.lora.projections=('q', 'k')"]
    flags += ["--config.data.splits.unseen_groups={'country': ['Kenya']}", "--config.data.splits.group_sets={}"]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, "-c", script, *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "loss='paper_jsd', steps=4280, lr=0.001," in done.stdout
    assert "schedule='constant', lr_end=0.44, b1=0.5" in done.stdout
    assert "projections=('q', 'k')" in done.stdout
    assert "group_sets={}" in done.stdout
    assert "unseen_groups={'country': ('Kenya',)}" in done.stdout
    assert "checkpoints/published_llama3_8b_instruct_paper_jsd" in done.stdout
