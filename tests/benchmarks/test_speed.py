"""The arithmetic of benchmarks.speed: FLOPs against a count by hand, ratios, tables."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import __main__, speed_flops, speed_report
from benchmarks.speed.jax_recipes import trees_of
from benchmarks.speed.speed_data import JOBS, Job, Round
from benchmarks.speed.speed_worker import mean_kl
from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import group_questions
from survey_jax.model.flops import step_flops
from survey_jax.pretrained.families import decoder_config
from survey_jax.survey.table import Answer

SIZES = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}
CONFIG, _ = decoder_config(SIZES, "tiny")
WEIGHTS = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16  # q; k, v; o; gate, up, down
TREES = [(5, [2, 3]), (4, [])]


def answer(question: str, group: str, probs: tuple[float, ...] = (0.5, 0.5)) -> Answer:
    options = tuple(f"option {i}" for i in range(len(probs)))
    return Answer("a survey", question, f"{question}?", options, (("country", group),), probs)


def prompt(question: str, group: str, tokens: list[int]) -> Prompt:
    return Prompt(answer(question, group), np.array(tokens, np.int32), (0, 1))


def visible(trunk: int, branches: list[int]) -> int:
    """Pairs, by looking at each query of each branch in turn."""
    count = sum(1 for q in range(trunk) for k in range(trunk) if k <= q)
    for branch in branches:
        path = trunk + branch
        count += sum(1 for q in range(trunk, path) for k in range(path) if k <= q)
    return count


def test_tokens_and_pairs_are_counted_once():
    assert speed_flops.tokens(TREES) == 14
    assert speed_flops.visible_pairs(TREES) == sum(visible(*tree) for tree in TREES)


def test_forward_flops_by_hand():
    products = 2 * 14 * 3 * WEIGHTS
    attention = 2 * 2 * sum(visible(*tree) for tree in TREES) * 8 * 3  # q k' and times v, two heads of width 4
    head = 2 * 3 * 6 * 8  # three answers, six options
    assert speed_flops.unique_flops(CONFIG, TREES, JOBS["eval"], options=6) == products + attention + head


@pytest.mark.parametrize("job", [job for job in JOBS.values() if job.train])
def test_training_flops_differ_from_a_padded_step_by_masked_pairs_only(job: Job):
    theirs = step_flops(
        CONFIG,
        batch_size=3,
        seq_len=7,
        answers_per_seq=1,
        options=4,
        lora_rank=job.rank,
        projections=job.projections,
        remat="none",
    ).useful
    ours = speed_flops.unique_flops(CONFIG, [(7, [])] * 3, job, options=4)
    masked = 3 * (7 * 7 - 7 * 8 // 2)
    assert theirs - ours == 3 * 4 * masked * 8 * 3  # forward once, backward twice


def test_trees_of_a_batch_are_its_prompts_with_their_common_start_once():
    prompts = [
        prompt("Q1", "Kenya", [1, 2, 3, 4]),
        prompt("Q1", "Peru", [1, 2, 5]),
        prompt("Q2", "Kenya", [1, 7, 8, 9]),
        prompt("Q2", "Peru", [1, 7, 8, 6, 6]),
    ]
    held = np.array([[[0, 2, 1], [3, -1, -1]]])  # a microbatch of two rows
    assert trees_of(held, group_questions(prompts)) == [(2, [2, 1]), (3, [1]), (3, [2])]


def test_ratios_are_against_the_fastest_of_a_letter():
    found = speed_report.ratios({"a": 1.0, "a_bf16": 2.0, "b": 4.0, "b8": 5.0, "b8_bf16": 10.0, "d": 30.0})
    assert found == {"d/a": 30.0, "d/b": 6.0, "d/a best": 15.0, "d/b best": 3.0}


def test_figures_are_of_the_rounds():
    rounds = [Round([1.0, 3.0], 8, 80, [(7, [])] * 8), Round([1.0, 1.0], 8, 80, [(7, [])] * 8)]
    found = speed_report.figures(CONFIG, JOBS["lora_qv"], 4, rounds)
    assert found["examples_per_second"] == speed_report.Spread(3.0, 2.0, 4.0)
    assert found["step_seconds"] == speed_report.Spread(1.5, 1.0, 2.0)
    assert (found["examples_per_step"], found["tokens_per_example"], found["computed_per_example"]) == (4, 7, 10)
    flops = speed_flops.unique_flops(CONFIG, rounds[0].trees, JOBS["lora_qv"], 4)
    assert (found["flops_per_second"].low, found["flops_per_second"].high) == (flops / 4, flops / 2)


def test_peak_is_the_fastest_product_of_a_type():
    rounds = [{"float32": {"1x1x1": 2.0, "2x2x2": 3.0}}, {"float32": {"1x1x1": 1.0}, "bfloat16": {"1x1x1": 9.0}}]
    assert speed_report.peaks(rounds) == {"float32": 3.0, "bfloat16": 9.0}


def test_tables_have_a_row_a_job_and_say_what_failed():
    rounds = [Round([2.0], 8, 80, [(7, [])] * 8)]
    found = {k: dataclasses.asdict(v) if k.endswith(("second", "seconds")) else v for k, v in figures(rounds).items()}
    times = {"loading_peak": 1e9, "peak": 2e9, "first_step_s": 3.0, "compile_s": None, "second_start_s": 1.5}
    result = {
        "model": "tiny",
        "job": "full",
        "recipes": {"a": {"failed": "ended with code -9"}, "d": found | times},
        "ratios": {},
        "peaks": {"float32": 1e9},
    }
    lines = speed_report.markdown([result]).splitlines()
    assert "| tiny | full | failed | 4.00 (4.00 to 4.00) |" in lines
    details = next(line for line in lines if line.startswith("| tiny | full | d |"))
    assert details.count("|") == 4 + len(speed_report.DETAILS)
    assert " 1.00 | 2.00 | 3.00 |  | 1.50 |" in details


def figures(rounds: list[Round]) -> dict:
    return speed_report.figures(CONFIG, JOBS["full"], 4, rounds)


def first(loss: float, asked: int = 1) -> dict:
    return {"losses": {"paper": loss}, "asked": {"paper": asked}}


def test_losses_must_agree_as_their_types_allow():
    same = {"a": first(1.0), "b_bf16": first(1.04), "c": first(1.0001)}
    assert __main__.check_losses(same) == {"paper": {"a": 1.0, "b_bf16": 1.04, "c": 1.0001}}
    with pytest.raises(UserError, match=r"1\.000300 by c, 1\.000000 by a"):
        __main__.check_losses({"a": first(1.0), "c": first(1.0003)})
    with pytest.raises(UserError, match="do not ask the same"):
        __main__.check_losses({"a": first(1.0), "c": first(1.0, asked=2)})


def test_workers_are_where_their_drivers_look_for_them():
    """Each is a process that a module's name starts, which no import would miss."""
    started = set(__main__.MODULES.values())
    for driver in Path(__main__.__file__).parents[1].glob("**/*.py"):
        started |= set(re.findall(r'"-m", "([\w.]+)"', driver.read_text(encoding="utf-8")))
    assert len(started) > 5
    assert [name for name in started if importlib.util.find_spec(name) is None] == []


def test_mean_kl_by_hand():
    prompts = [Prompt(answer("Q1", "Kenya", (0.25, 0.75)), np.array([1], np.int32), (0, 1))]
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert mean_kl(prompts, np.array([[0.5, 0.5, 0.0]])) == pytest.approx(expected)
