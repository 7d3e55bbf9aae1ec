"""Tree batches are the separate prompts, computed once: same loss, same gradient, nothing leaks between branches."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import nnx

import tiny
from made_prompts import encode
from survey_jax.inputs.batches import Batches
from survey_jax.inputs.prompts import Prompt, Prompter
from survey_jax.inputs.trees import BatchShape, group_questions, tree_shape
from survey_jax.model import attention
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import PROJECTIONS, LayerKind
from survey_jax.model.attention_kernels import splash_kernel
from survey_jax.model.block import Numerics
from survey_jax.model.decoder import decode, token_logits
from survey_jax.model.lora import LoraParam
from survey_jax.model.matmul import low_rank
from survey_jax.model.rotary import Dynamic, Rotary
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.table import parse_rows
from survey_jax.training.step import StepConfig, gradients, loss_sums, option_logits

# Soft caps are Gemma 2's; with them a wrong merge of attention's two parts cannot cancel out.
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma3": {"attention_softcap": 2.0, "logit_softcap": 3.0},
}
SHAPE = BatchShape(batch_size=8, seq_len=640, answers_per_seq=8, trunk_len=320, options=5)
GROUPS = 3
STEP = jax.jit(gradients, static_argnums=(0, 5))


class Setup(NamedTuple):
    step_config: StepConfig
    graphdef: Any
    params: Any
    frozen: Any
    letters: jax.Array
    prompts: dict[str, list[Prompt]]  # by template


@pytest.fixture(scope="module", params=VARIANTS)
def setup(request, tmp_path_factory) -> Setup:
    """A random model whose adapters all matter, and the prompts of an uneven table under both templates."""
    return make_setup(request.param, tmp_path_factory.mktemp(request.param), LoraParam)


def make_setup(family: str, directory: Path, trainable: type) -> Setup:
    pretrained = open_pretrained(str(tiny.write_model(directory, family)))
    config = dataclasses.replace(pretrained.config, **VARIANTS.get(family, {}))
    abstract = abstract_model(pretrained.config, 4 if trainable is LoraParam else 0, PROJECTIONS)
    model = load_model(pretrained, abstract, make_mesh(1, 1, 1), frozen_dtype="float32", trainable=trainable, seed=0)
    graphdef, params, frozen = nnx.split(model, trainable, ...)
    if trainable is LoraParam:  # B starts at zero, and then the gradient of A is zero too
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), params)
    rows = tiny.rows(4, tiny.GROUPS[:4])[:-3]  # the last question is asked of one group: its branch is one token
    prompts = {}
    for template in ("paper", "question_first"):
        prompter = Prompter(pretrained.tokenizer(), template)
        prompts[template] = encode(prompter, parse_rows(rows, "tiny"), SHAPE.seq_len)
        prompts[template][0].tokens[0] += 1  # the first question's prompts share nothing: its trunk is empty
    letters = prompter.letters([prompter.text(prompts["paper"][0].answer)], SHAPE.options)
    step_config = StepConfig(config, Numerics(lora_scale=2.0 if trainable is LoraParam else 0.0))
    return Setup(step_config, graphdef, params, frozen, jnp.asarray(letters), prompts)


@pytest.fixture
def splash_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TPU's kernel interpreted, on any device."""
    monkeypatch.setattr(attention, "splash_kernel", functools.partial(splash_kernel, interpret=True))


def separate(s: Setup, prompts: list[Prompt]) -> tuple[float, Any]:
    """The reference: every prompt a plain causal row of its own; the mean KL written out, and its gradient."""
    length = max(len(p.tokens) for p in prompts)
    tokens = np.stack([np.pad(p.tokens, (0, length - len(p.tokens))) for p in prompts])
    ends = np.array([len(p.tokens) - 1 for p in prompts])
    plain = {
        "tokens": tokens,
        "positions": np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape),
        "trees": (np.arange(length) <= ends[:, None]).astype(np.int32),
        "branches": np.zeros_like(tokens),
    }
    target = np.zeros((len(prompts), SHAPE.options))
    for row, prompt in zip(target, prompts, strict=True):
        row[: len(prompt.answer.probs)] = prompt.answer.probs
    exists = target > 0  # the table has no zero shares
    entropy = -scipy.special.xlogy(target, target).sum()

    def loss(params):
        model = nnx.merge(s.graphdef, params, s.frozen)
        hidden, _ = decode(
            model, jax.tree.map(jnp.asarray, plain), s.step_config.decoder, numerics=s.step_config.numerics
        )
        logits = token_logits(model, hidden[np.arange(len(prompts)), ends], s.letters, s.step_config.decoder)
        log_p = logits - jax.nn.logsumexp(jnp.where(exists, logits, -jnp.inf), axis=-1, keepdims=True)
        return (-entropy - jnp.sum(target * log_p)) / len(prompts)

    value, grads = jax.jit(jax.value_and_grad(loss))(s.params)
    return float(value), grads


def in_trees(
    s: Setup,
    prompts: list[Prompt],
    back_end: str = "dense",
    microbatches: int = 1,
    remat: str = "none",
    groups: int = GROUPS,
    rows: int = SHAPE.batch_size,
) -> tuple[float, Any]:
    """Loss and gradient of one step that holds all prompts, packed."""
    shape = dataclasses.replace(SHAPE, batch_size=rows // microbatches)
    batches = Batches(prompts, shape, groups=groups, microbatches=microbatches)
    assert batches.first_step(1) == 1
    batch = batches.batch(0)
    assert sorted(batch.pop("prompt")[batch["weight"] > 0]) == list(range(len(prompts)))
    assert (batch["trees"].max((0, 1)) > 1).any(), "rows hold several trees"
    sizes = None if back_end == "dense" else tree_shape(batches.questions, shape, back_end)
    step_config = dataclasses.replace(s.step_config, tree_shape=sizes, remat=remat)
    loss, grads, _ = STEP(s.graphdef, s.params, s.frozen, batch, s.letters, step_config)
    return float(loss), grads


def assert_equal(ours: tuple[float, Any], theirs: tuple[float, Any]) -> None:
    """Loss to 1e-5, every gradient to 1e-4 of its norm."""
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    flat = zip(jax.tree.leaves_with_path(ours[1]), jax.tree.leaves(theirs[1]), strict=True)
    worst = {}
    for (path, a), b in flat:
        norm = np.linalg.norm(b)
        assert norm > 1e-6, f"{jax.tree_util.keystr(path)}: a zero gradient proves nothing"
        worst[jax.tree_util.keystr(path)] = np.linalg.norm(a - b) / norm
    print(f"loss {abs(ours[0] / theirs[0] - 1):.1e}, gradient {max(worst.values()):.1e}")
    assert max(worst.values()) < 1e-4, worst


@pytest.mark.parametrize("template", ["paper", "question_first"])
def test_trees_equal_separate_prompts(setup: Setup, template: str) -> None:
    prompts = setup.prompts[template]
    reference = separate(setup, prompts)
    assert_equal(in_trees(setup, prompts), reference)
    assert_equal(in_trees(setup, prompts, back_end="two_part"), reference)


@pytest.mark.usefixtures("splash_anywhere")
@pytest.mark.parametrize("remat", ["none", "dots"])
def test_trees_equal_separate_prompts_by_splash(setup: Setup, remat: str) -> None:
    prompts = setup.prompts["question_first"]
    assert_equal(in_trees(setup, prompts, back_end="splash", remat=remat), separate(setup, prompts))


def test_full_fine_tuning_equals_separate_prompts(tmp_path: Path) -> None:
    s = make_setup("gemma3", tmp_path, nnx.Param)
    prompts = s.prompts["question_first"]
    assert_equal(in_trees(s, prompts, back_end="two_part"), separate(s, prompts))


@pytest.mark.parametrize("family", tiny.OTHERS)
def test_trees_of_other_families(family: str, tmp_path: Path) -> None:
    """Layers without positions; norms over whole projections and biases; fused tensors, partial rotary, LongRoPE;
    attention and feed-forward side by side; queries that grow with their position; experts; layers of several shapes,
    some with the keys and values of others, and inputs of their own; sinks; layers that remember; chunks; keys and
    values unfolded from short vectors."""
    s = make_setup(family, tmp_path, LoraParam if family == "phi3" else nnx.Param)
    prompts = s.prompts["question_first"]
    if family == "phi3":  # some questions' prompts are all beyond the original length, other questions' all within
        spans = [[len(p.tokens) for p in prompts if p.answer.question_id == f"q{q}"] for q in range(4)]
        spans = sorted(spans, key=min)
        assert max(spans[1]) < min(spans[2])
        s = with_rotary(s, dataclasses.replace(s.step_config.decoder.kinds[0].rotary, original_length=max(spans[1])))
    reference = separate(s, prompts)
    assert_equal(in_trees(s, prompts, rows=4), reference)
    assert_equal(in_trees(s, prompts, rows=4, back_end="two_part"), reference)


@pytest.mark.parametrize("setup", ["llama"], indirect=True)
def test_dynamic_scaling_goes_by_the_longest_prompt_of_a_tree(setup: Setup) -> None:
    prompts = setup.prompts["question_first"]
    s = with_rotary(setup, Dynamic(theta=1e4, factor=50.0, original_length=8))
    reference = separate(s, prompts)
    unscaled = separate(setup, prompts)
    assert abs(reference[0] - unscaled[0]) > 1e-4 * reference[0], "ten times what assert_equal lets pass"
    assert_equal(in_trees(s, prompts, groups=1), reference)  # a tree a prompt


def with_rotary(s: Setup, rotary: Rotary) -> Setup:
    decoder = dataclasses.replace(s.step_config.decoder, kinds=(LayerKind(rotary),))
    return s._replace(step_config=dataclasses.replace(s.step_config, decoder=decoder))


@pytest.mark.parametrize("setup", ["gemma3"], indirect=True)
@pytest.mark.parametrize("microbatches", [2, 4])
def test_microbatches_weigh_answers_not_microbatches(setup: Setup, microbatches: int) -> None:
    prompts = setup.prompts["question_first"]
    shape = dataclasses.replace(SHAPE, batch_size=SHAPE.batch_size // microbatches)
    batch = Batches(prompts, shape, groups=GROUPS, microbatches=microbatches)
    assert len(set(batch.batch(0)["weight"].sum((1, 2)))) > 1, "microbatches hold different numbers of answers"
    assert_equal(in_trees(setup, prompts, microbatches=microbatches), in_trees(setup, prompts))


@pytest.mark.parametrize("setup", ["gemma3"], indirect=True)
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_no_number(setup: Setup, remat: str) -> None:
    prompts = setup.prompts["question_first"]
    assert_equal(in_trees(setup, prompts, remat=remat), in_trees(setup, prompts))


@pytest.mark.usefixtures("splash_anywhere")
@pytest.mark.parametrize("back_end", ["dense", "two_part", "splash"])
def test_nothing_leaks_between_trees_and_branches(setup: Setup, back_end: str) -> None:
    """Other tokens in one trunk change that tree's answers only; other tokens in one branch, that answer only."""
    prompts = setup.prompts["question_first"]
    batch = Batches(prompts, SHAPE, groups=GROUPS).batch(0)
    batch = {name: array[0] for name, array in batch.items()}
    sizes = None if back_end == "dense" else tree_shape(group_questions(prompts), SHAPE, back_end)
    step_config = dataclasses.replace(setup.step_config, tree_shape=sizes)
    model = nnx.merge(setup.graphdef, setup.params, setup.frozen)
    arrays = jax.tree.map(jnp.asarray, batch)
    run = jax.jit(lambda tokens: option_logits(model, arrays | {"tokens": tokens}, setup.letters, step_config))
    before = np.asarray(run(batch["tokens"]))
    row = int(np.argmax(batch["trees"].max(-1)))  # the row with most trees
    at = (np.arange(SHAPE.batch_size)[:, None], batch["answer_index"])
    real, tree, branch = batch["weight"] > 0, batch["trees"][at], batch["branches"][at]
    assert (batch["trees"][row].max(), branch[row].max()) >= (2, 2)

    def changed(where: np.ndarray) -> np.ndarray:
        tokens = np.where(where, (batch["tokens"] + 7) % tiny.SIZES["vocab_size"], batch["tokens"])
        return real & (np.asarray(run(tokens)) != before).any(-1)

    here = np.arange(SHAPE.batch_size)[:, None] == row
    trunk = here & (batch["trees"] == 1) & (batch["branches"] == 0)
    np.testing.assert_array_equal(changed(trunk), real & here & (tree == 1))
    twig = here & (batch["trees"] == 1) & (batch["branches"] == 1)
    np.testing.assert_array_equal(changed(twig), real & here & (tree == 1) & (branch == 1))


def test_kl_is_scipys() -> None:
    """Zero shares, masked options, weights and empty slots; the gradient stays finite."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 4, 6)).astype(np.float32)
    count = np.array([[6, 2, 3, 0], [4, 5, 0, 0]])  # 0: an empty slot
    mask = np.arange(6) < count[..., None]
    target = np.where(mask, rng.random((2, 4, 6)), 0)
    target[0, 0, :5] = 0  # all but one answer never given
    target[1, 1, 2] = 0
    target = (target / np.maximum(target.sum(-1, keepdims=True), 1e-9)).astype(np.float32)
    weight = np.where(count > 0, rng.random((2, 4)), 0).astype(np.float32)
    batch = {"option_mask": mask, "target": target, "weight": weight}
    expected = sum(
        weight[i, j] * scipy.stats.entropy(target[i, j, :k], np.exp(logits[i, j, :k]) / np.exp(logits[i, j, :k]).sum())
        for (i, j), k in np.ndenumerate(count)
        if k
    )
    (kl, total), gradient = jax.value_and_grad(loss_sums, has_aux=True)(
        jnp.asarray(logits), jax.tree.map(jnp.asarray, batch)
    )
    assert float(kl) == pytest.approx(expected, rel=1e-5)
    assert float(total) == pytest.approx(weight.sum(), rel=1e-6)
    # d KL / d logit = prediction - target on the options that exist, nothing elsewhere
    prediction = np.where(mask, np.exp(logits), 0)
    prediction /= np.maximum(prediction.sum(-1, keepdims=True), 1e-9)
    np.testing.assert_allclose(gradient, weight[..., None] * (prediction - target), atol=1e-6)


@pytest.mark.parametrize("shapes", [((3, 5, 32), (32, 4)), ((3, 5, 4), (4, 32))], ids=["down", "up"])
def test_low_rank_gradient_is_that_of_a_matrix_product(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)

    def gradient(product: Callable) -> Any:
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(product(x, w))), argnums=(0, 1))(x, w)

    np.testing.assert_allclose(low_rank(x, w), x @ w, rtol=1e-6)
    for ours, plain in zip(gradient(low_rank), gradient(jnp.matmul), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_letter_logits_are_rows_of_all_logits(setup: Setup) -> None:
    """hidden @ head, soft-capped where the family caps, then gathered."""
    c = setup.step_config.decoder
    model = nnx.merge(setup.graphdef, setup.params, setup.frozen)
    hidden = np.random.default_rng(0).normal(0, 2, (2, 3, c.width)).astype(np.float32)
    everything = hidden.astype(np.float64) @ np.asarray(model.embedding[...], np.float64).T
    if c.logit_softcap:
        everything = np.tanh(everything / c.logit_softcap) * c.logit_softcap
    ours = token_logits(model, jnp.asarray(hidden), setup.letters, c)
    np.testing.assert_allclose(ours, everything[..., np.asarray(setup.letters)], atol=1e-5)
