"""Batches: a pure function of seed and step, every prompt at most once an epoch."""

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

from made_prompts import make_prompt, random_prompts, read_batch
from survey_jax.inputs.batches import Batches, evaluation_batches, prefetch, to_device
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import BatchShape
from survey_jax.parallel.sharding import make_mesh

SHAPE = BatchShape(batch_size=2, seq_len=40, answers_per_seq=6, trunk_len=40, options=5)
PROMPTS = random_prompts(0, questions=15)


def make_batches(**changes) -> Batches:
    return Batches(**({"prompts": PROMPTS, "shape": SHAPE, "groups": 3, "microbatches": 2, "seed": 0} | changes))


def prompts_of(batch: dict[str, np.ndarray], prompts: list[Prompt] = PROMPTS) -> list[int]:
    """The prompts of a step, all microbatches; checks each on the way."""
    parts = [{name: array[m] for name, array in batch.items()} for m in range(len(batch["tokens"]))]
    return [i for part in parts for i in read_batch(part, prompts)]


def epochs(batches: Batches, count: int) -> list[list[int]]:
    """The prompts of each epoch in order; an epoch ends when as many came as there are."""
    result, step = [], 0
    for _ in range(count):
        epoch: list[int] = []
        while len(epoch) < len(batches.prompts):
            epoch += prompts_of(batches.batch(step), batches.prompts)
            step += 1
        assert len(epoch) == len(batches.prompts)
        result.append(epoch)
    assert step == batches.first_step(count)
    return result


def assert_equal(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_batch_depends_on_seed_and_step_alone():
    steps = [7, 0, 31, 8, 7, 0]  # back and forth over several epochs
    assert make_batches().first_step(2) < 31
    wandering = make_batches()
    for step in steps:
        assert_equal(wandering.batch(step), make_batches().batch(step))


def test_every_prompt_comes_once_an_epoch():
    for changes in ({}, {"groups": 1}, {"microbatches": 1, "seed": 5}, {"groups": 99, "microbatches": 5}):
        for epoch in epochs(make_batches(**changes), 3):
            assert sorted(epoch) == list(range(len(PROMPTS)))


def test_question_answers_limits_an_epoch_and_draws_anew_for_each():
    counts = Counter(p.answer.question_key for p in PROMPTS)
    limit = 2
    assert max(counts.values()) > limit
    batches = make_batches(question_answers=limit)
    drawn = []
    for epoch in range(2):
        steps = range(batches.first_step(epoch), batches.first_step(epoch + 1))
        found = [i for step in steps for i in prompts_of(batches.batch(step))]
        assert len(set(found)) == len(found)
        used = Counter(PROMPTS[i].answer.question_key for i in found)
        assert used == {key: min(limit, n) for key, n in counts.items()}
        drawn.append(set(found))
    assert drawn[0] != drawn[1]
    assert f"{len(drawn[0])} of {len(PROMPTS)} answers" in batches.report()


def test_no_survey_has_more_than_its_share_of_an_epoch():
    prompts = [
        make_prompt([q, g], f"q{q}", f"g{g}", survey="large" if q < 30 else "small" if q < 36 else "smallest")
        for q in range(40)
        for g in range(5)
    ]
    batches = make_batches(prompts=prompts, shape=BatchShape(2, 12, 6, 12, 2), survey_share=0.6)
    drawn = []
    for epoch in range(2):
        steps = range(batches.first_step(epoch), batches.first_step(epoch + 1))
        found = {i for step in steps for i in prompts_of(batches.batch(step), prompts)}
        counts = Counter(prompts[i].answer.survey for i in found)
        assert counts == {"large": 75, "small": 30, "smallest": 20}  # 75 of 125
        drawn.append(found)
    assert drawn[0] != drawn[1]
    everything = make_batches(prompts=prompts, shape=BatchShape(2, 12, 6, 12, 2), survey_share=0.99)
    steps = range(everything.first_step(1))
    assert len({i for step in steps for i in prompts_of(everything.batch(step), prompts)}) == 200


def test_order_differs_between_epochs_and_seeds():
    orders = epochs(make_batches(), 3) + epochs(make_batches(seed=1), 3)
    assert len({tuple(order) for order in orders}) == 6


def test_questions_are_mixed():
    # A question's prompts may stand together in the table; in a row and in a step, distant questions meet.
    prompts = [make_prompt([q, g], f"q{q}", f"g{g}") for q in range(20) for g in range(6)]
    batches = make_batches(prompts=prompts, shape=BatchShape(2, 12, 6, 12, 2), groups=2)
    step = np.ma.masked_less(batches.batch(0)["prompt"], 0) // 6
    assert np.ptp(step) > 5
    assert np.ptp(step, axis=-1).mean() > 5


def test_microbatches_are_the_rows_of_one_large_batch():
    parts = make_batches(microbatches=3)
    whole = make_batches(microbatches=1, shape=dataclasses.replace(SHAPE, batch_size=6))
    for step in range(parts.first_step(2)):
        small, large = parts.batch(step), whole.batch(step)
        assert small["tokens"].shape == (3, 2, SHAPE.seq_len)
        for name in small:
            np.testing.assert_array_equal(np.concatenate(small[name].swapaxes(0, 1)), large[name][0])


def test_padding_of_a_short_last_batch_is_spread_over_microbatches():
    batches = make_batches(microbatches=3)
    short = 0
    for epoch in range(1, 6):
        last = batches.batch(batches.first_step(epoch) - 1)
        filled = (last["weight"] > 0).any(-1).sum(-1)  # rows, by microbatch
        assert max(filled) - min(filled) <= 1
        short += sum(filled) < 6
    assert short


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_limits_how_many_share_a_tree(groups):
    batches = make_batches(groups=groups)
    most = max(batches.batch(step)["branches"].max() for step in range(batches.first_step(1)))
    assert most == groups


def test_fingerprint_tells_apart_what_decides_a_batch():
    first = PROMPTS[0]
    other_token = dataclasses.replace(first, tokens=np.append(first.tokens[:-1], np.int32(99)))
    probs = first.answer.probs[::-1]
    other_target = dataclasses.replace(first, answer=dataclasses.replace(first.answer, probs=probs))
    shapes = [dataclasses.replace(SHAPE, **{f.name: getattr(SHAPE, f.name) + 1}) for f in dataclasses.fields(SHAPE)]
    variants = [
        {},
        {"prompts": [other_token, *PROMPTS[1:]]},
        {"prompts": [other_target, *PROMPTS[1:]]},
        {"prompts": PROMPTS[1:]},
        {"prompts": [*PROMPTS[1:], PROMPTS[0]]},
        {"groups": 4},
        {"question_answers": 2},
        {"microbatches": 3},
        {"seed": 1},
        *({"shape": shape} for shape in shapes),
    ]
    found = [make_batches(**changes).fingerprint() for changes in variants]
    assert len(set(found)) == len(variants)


def test_fingerprint_stays_where_batches_stay():
    used = make_batches()
    used.batch(9)
    renamed = dataclasses.replace(PROMPTS[0].answer, source="elsewhere", n=7.0, extra={"note": 1})
    same = make_batches(prompts=[dataclasses.replace(PROMPTS[0], answer=renamed), *PROMPTS[1:]])
    assert make_batches().fingerprint() == used.fingerprint() == same.fingerprint()


def test_report_tells_what_the_first_epoch_does():
    batches = make_batches()
    seen, steps, tokens, rows = 0, 0, 0, 0
    while seen < len(PROMPTS):
        batch = batches.batch(steps)
        steps += 1
        seen += int((batch["weight"] > 0).sum())
        tokens += int((batch["trees"] > 0).sum())
        rows += int((batch["trees"] > 0).any(-1).sum())
    separate = sum(len(p.tokens) for p in PROMPTS)
    questions = len({p.answer.question_id for p in PROMPTS})
    assert re.findall(r"\d+(?:\.\d+)?", batches.report()) == [
        str(len(PROMPTS)),
        str(len(PROMPTS)),
        str(questions),
        str(steps),
        f"{len(PROMPTS) / steps:.1f}",
        f"{100 * tokens / (rows * SHAPE.seq_len):.1f}",
        str(tokens),
        str(separate),
        f"{100 * (1 - tokens / separate):.1f}",
    ]


def test_evaluation_asks_each_prompt_once():
    for prompts in (PROMPTS, PROMPTS[:1], PROMPTS[:11]):
        batches = evaluation_batches(prompts, SHAPE)
        found = [i for batch in batches for i in read_batch(batch, prompts)]
        assert sorted(found) == list(range(len(prompts)))
        assert all(batch["tokens"].shape == (SHAPE.batch_size, SHAPE.seq_len) for batch in batches)


def test_prefetch_gives_the_same_batches():
    coming = list(prefetch(make_batches(), 5, 9))
    assert [step for step, _ in coming] == [5, 6, 7, 8]
    for step, batch in coming:
        assert_equal(batch, make_batches().batch(step))


def test_device_gets_the_batch():
    batch = make_batches().batch(0)
    placed = to_device(batch, make_mesh(1, -1, 1), SHAPE.batch_size, microbatched=True)
    assert_equal({name: np.asarray(array) for name, array in placed.items()}, batch)


def test_a_fingerprint_is_the_same_on_a_machine_that_rounds_priors_otherwise():
    """A run that starts from rules resumes elsewhere, too."""
    rng = np.random.default_rng(0)
    prompts = random_prompts(0)
    shares = [rng.dirichlet(np.ones(len(p.order))) for p in prompts]
    here, there = (
        [dataclasses.replace(p, prior=s * f) for p, s in zip(prompts, shares, strict=True)] for f in (1, 1 + 1e-15)
    )
    assert make_batches(prompts=here).fingerprint() == make_batches(prompts=there).fingerprint()
