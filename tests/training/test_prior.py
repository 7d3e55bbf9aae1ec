"""Training that starts from a prior: at first the prediction is the prior; and dropout of adapters' ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
from flax import nnx

from made_prompts import make_prompt
from survey_jax.inputs.prompts import with_prior
from survey_jax.inputs.trees import BatchShape, cut, group_questions, pack, to_batch
from survey_jax.model.abstract import abstract_model
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.training.dropout import with_dropout
from survey_jax.training.step import StepConfig, gradients, predict_step
from tiny import write_model

LETTERS = jnp.array([65, 66, 67])
SHAPE = BatchShape(batch_size=1, seq_len=32, answers_per_seq=4, trunk_len=16, options=3)
PRIOR = [np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.9]), np.array([0.5, 0.25, 0.25])]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(graphdef, adapters, frozen, step configuration) of a tiny model with a gain."""
    pretrained = open_pretrained(str(write_model(tmp_path_factory.mktemp("model"))))
    abstract = abstract_model(pretrained.config, 4, ("q", "v"), prior=True)
    mesh = make_mesh(1, 1, 1)
    made = load_model(pretrained, abstract, mesh, frozen_dtype="float32", trainable=LoraParam, seed=0)
    return *nnx.split(made, LoraParam, ...), StepConfig(pretrained.config, Numerics(lora_scale=2.0))


@pytest.fixture(scope="module")
def prompts():
    """Two groups of a question with three options and one with two, letters of the last in reverse order."""
    rows = [
        ([5, 6, 7], "q1", "a", (0.2, 0.5, 0.3)),
        ([5, 8], "q2", "a", (0.4, 0.6)),
        ([5, 6, 9], "q1", "b", (1.0, 0, 0)),
    ]
    made = [make_prompt(tokens, question, group, probs) for tokens, question, group, probs in rows]
    made[1] = type(made[1])(made[1].answer, made[1].tokens, (1, 0))
    return with_prior(made, lambda answers: PRIOR)


def batch_of(prompts):
    trees = [tree for q in group_questions(prompts) for tree in cut(q, range(len(q.members)), 4, SHAPE)]
    (row,) = pack(trees, SHAPE)
    return {name: jnp.asarray(array) for name, array in to_batch([row], prompts, SHAPE).items()}


def test_the_first_prediction_is_the_prior(model, prompts) -> None:
    graphdef, params, frozen, c = model
    batch = batch_of(prompts)
    said = np.asarray(predict_step(graphdef, params, frozen, batch, LETTERS, step_config=c))[0]
    for slot, index in enumerate(batch["prompt"][0]):
        if index >= 0:
            order = list(prompts[int(index)].order)
            np.testing.assert_allclose(said[slot, : len(order)], PRIOR[int(index)][order], rtol=1e-5)


def test_the_gain_learns_first_and_adapters_follow(model, prompts) -> None:
    graphdef, params, frozen, c = model
    batch = {name: array[None] for name, array in batch_of(prompts).items()}
    loss, grads, _ = gradients(graphdef, params, frozen, batch, LETTERS, c)
    expected = np.mean([scipy.stats.entropy(p.answer.probs, prior) for p, prior in zip(prompts, PRIOR, strict=True)])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    found = {path[-1]: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(grads)}
    assert not any(found[name].any() for name in found if name != "logit_gain")

    step = 1e-3

    def at(value: float) -> float:
        moved = [
            (path, leaf.replace(leaf[...] + value) if path[-1] == "logit_gain" else leaf)
            for path, leaf in nnx.to_flat_state(params)
        ]
        return float(gradients(graphdef, nnx.from_flat_state(moved), frozen, batch, LETTERS, c)[0])

    assert float(found["logit_gain"]) == pytest.approx((at(step) - at(-step)) / (2 * step), rel=0.02)


def test_without_a_prior_a_prompt_is_asked_as_ever(model, prompts) -> None:
    graphdef, params, frozen, c = model
    plain = [type(p)(p.answer, p.tokens, p.order) for p in prompts]
    batch = batch_of(plain)
    assert "prior" not in batch
    said = np.asarray(predict_step(graphdef, params, frozen, batch, LETTERS, step_config=c))
    assert not np.allclose(said[0, 0, :3], PRIOR[0], atol=0.01)


def test_dropout_leaves_out_whole_ranks_and_keeps_the_mean(model) -> None:
    _, params, _, _ = model
    full = jax.tree.map(lambda x: np.ones(x.shape, np.float32), params)
    assert with_dropout(full, 0.0, 0, 1) is full
    draws = [dict(nnx.to_flat_state(with_dropout(full, 0.25, 0, step))) for step in range(400)]
    for path in draws[0]:
        values = np.stack([np.asarray(draw[path][...]) for draw in draws])
        if not path[-1].endswith("_lora_b"):
            assert (values == 1).all()
            continue
        np.testing.assert_array_equal(values, np.broadcast_to(values[..., :1], values.shape))  # a rank as a whole
        assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs(values.mean() - 1) < 0.02
    again = dict(nnx.to_flat_state(with_dropout(full, 0.25, 0, 7)))
    assert all((np.asarray(again[path][...]) == np.asarray(draws[7][path][...])).all() for path in again)
