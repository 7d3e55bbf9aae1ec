"""Letter logits of packed answer trees are transformers' logits of the separate prompts."""

import dataclasses
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from made_prompts import encode
from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig
from survey_jax.inference.parity import TOLERANCE, our_logits, report_parity, spread, their_logits
from survey_jax.inputs.prompts import Prompt, Prompter
from survey_jax.inputs.task import batch_shape, build_task, make_prompter, read_answers
from survey_jax.inputs.trees import group_questions
from survey_jax.model.abstract import abstract_model
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.training.build import Model, build_model
from survey_jax.training.step import StepConfig

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def demo_prompts(prompter_of, config: Config) -> list[Prompt]:
    """28 prompts per template: 4 groups of 7 questions, from the shortest to long ones; no question under both."""
    answers = read_answers(config)
    chosen = []
    for number, template in enumerate(("paper", "question_first")):
        prompts = encode(prompter_of(template), answers, 180, drop_long=True)
        questions = [q for q in group_questions(prompts)[number::2] if len(q.members) >= 4]
        first_of = {id(prompts[q.members[0]]): q for q in questions}
        for first in spread([prompts[q.members[0]] for q in questions], 4):
            members = first_of[id(first)].members
            chosen += [prompts[i] for i in members[:: len(members) // 4][:4]]
    return chosen


@pytest.mark.real_weights
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_packed_trees_have_transformers_logits(name: str, request, capsys) -> None:
    pretrained = open_pretrained(str(request.getfixturevalue(f"{name}_gguf")))
    tokenizer = pretrained.tokenizer()
    config = Config(data=DataConfig(tables=("demo",)), batch=BatchConfig(batch_size=2, seq_len=384, answers_per_seq=16))
    prompts = demo_prompts(lambda template: Prompter(tokenizer, template), config)
    lengths = {len(p.tokens) for p in prompts}
    assert len(prompts) >= 30
    assert len(lengths) >= 15
    count = max(len(p.answer.options) for p in prompts)
    letters = Prompter(tokenizer, "paper").letters([Prompter(tokenizer, "paper").text(prompts[0].answer)], count)

    mesh = make_mesh(1, 1, 1)
    model = load_model(
        pretrained,
        abstract_model(pretrained.config, 0, ()),
        mesh,
        frozen_dtype="float32",
        trainable=nnx.Param,
        seed=0,
    )
    graphdef, params, frozen = nnx.split(model, nnx.Param, ...)
    shape = batch_shape(config, prompts, count)
    ours = our_logits(Model(mesh, graphdef, params, frozen, StepConfig(pretrained.config), shape), prompts, letters)
    theirs = their_logits(request.getfixturevalue(f"{name}_torch"), prompts, letters)
    difference = float(np.abs(ours - theirs).max())
    with capsys.disabled():
        span = f"{min(lengths)} to {max(lengths)} tokens"
        print(f"\n{name}: max |logit difference| {difference:.1e} on {len(prompts)} prompts of {span}")
    assert theirs.std() > 0.1
    assert difference < TOLERANCE


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("attention", ["dense", "two_part"])
def test_check_parity(family: str, attention: str, tmp_path: Path, capsys) -> None:
    """The check passes on a Hugging Face directory, and stops a run whose weights are not the directory's."""
    weights = tiny.write_model(tmp_path / "model", family)
    file = tiny.write_config(tmp_path, weights, tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows()))
    config = runpy.run_path(str(file))["get_config"]()
    config.model.attention = attention
    pretrained = open_pretrained(str(weights))
    task = build_task(config, make_prompter(config, pretrained.tokenizer()))
    model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    report_parity(pretrained, model, task)
    said = capsys.readouterr().out
    assert float(said.split("difference|")[1].split()[0]) < 1e-4
    assert "8 prompts" in said

    wrong = jax.tree.map(lambda x: x * 1.02, model.frozen)
    with pytest.raises(UserError, match=r"model: logits differ from transformers' by .*, over 0\.001"):
        report_parity(pretrained, dataclasses.replace(model, frozen=wrong), task)
