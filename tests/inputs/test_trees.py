"""Answer trees against a reading of the arrays one token at a time: what goes in comes out, once, within limits."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from made_prompts import make_prompt, random_prompts, read_batch
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import (
    BatchShape,
    cut,
    empty_batch,
    group_questions,
    pack,
    to_batch,
    tree_shape,
    trunk_room,
)
from survey_jax.model.attention_mask import visible, visible_parts

SEEDS = range(20)


def random_shape(seed: int) -> BatchShape:
    rng = np.random.default_rng([seed, 1])
    tokens = int(rng.integers(25, 60))
    return BatchShape(3, tokens, int(rng.integers(1, 9)), int(rng.integers(24, tokens + 1)), 5)


def arrays(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A batch as the model gets it."""
    return jax.tree.map(jnp.asarray, batch)


def packed(prompts: list[Prompt], shape: BatchShape, groups: int):
    """(questions, rows, batches)."""
    questions = group_questions(prompts)
    trees = [t for q in questions for t in cut(q, range(len(q.members)), groups, shape)]
    rows = pack(trees, shape, open_rows=2)
    batches = [to_batch(rows[i : i + shape.batch_size], prompts, shape) for i in range(0, len(rows), shape.batch_size)]
    return questions, rows, batches


@pytest.mark.parametrize("seed", SEEDS)
def test_every_prompt_comes_out_once_and_within_limits(seed):
    prompts, shape, groups = random_prompts(seed), random_shape(seed), 1 + seed % 5
    _, _, batches = packed(prompts, shape, groups)
    found = [i for batch in batches for i in read_batch(batch, prompts)]
    assert sorted(found) == list(range(len(prompts)))
    neutral = empty_batch(shape)
    for batch in batches:
        assert {n: (a.shape, a.dtype) for n, a in batch.items()} == {n: (a.shape, a.dtype) for n, a in neutral.items()}
        trunks = (batch["trees"] > 0) & (batch["branches"] == 0)
        assert not trunks[:, shape.trunk_len :].any()
        assert batch["branches"].max() <= groups


@pytest.mark.parametrize("seed", SEEDS)
def test_trunk_is_the_longest_common_start(seed):
    prompts = random_prompts(seed)
    questions = group_questions(prompts)
    assert sorted(i for q in questions for i in q.members) == list(range(len(prompts)))
    for question in questions:
        own = [prompts[i] for i in question.members]
        assert len({p.answer.question_key for p in own}) == 1
        most = min(len(p.tokens) for p in own) - 1  # a branch is never empty
        shared = next((n for n in range(most) if len({int(p.tokens[n]) for p in own}) > 1), most)
        assert question.trunk.tolist() == own[0].tokens[:shared].tolist()
        for branch, p in zip(question.branches, own, strict=True):
            assert [*question.trunk, *branch] == p.tokens.tolist()


def test_a_question_whose_options_differ_between_rows_is_a_tree_for_each():
    prompts = [make_prompt([5, 6, 7], group="a"), make_prompt([5, 9, 7], group="b", probs=(0.2, 0.3, 0.5))]
    assert [q.members.tolist() for q in group_questions([*prompts, prompts[0]])] == [[0, 2], [1]]


def test_a_single_prompt_is_a_trunk_and_a_branch_of_one_token():
    prompts = [make_prompt([5, 6, 7, 8])]
    _, _, [batch] = packed(prompts, BatchShape(1, 6, 2, 6, 2), groups=4)
    assert batch["tokens"].tolist() == [[5, 6, 7, 8, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 0, 0]]
    assert batch["trees"].tolist() == [[1, 1, 1, 1, 0, 0]]
    assert batch["branches"].tolist() == [[0, 0, 0, 1, 0, 0]]
    assert batch["answer_index"].tolist() == [[3, 0]]
    assert batch["weight"].tolist() == [[1, 0]]
    assert batch["prompt"].tolist() == [[0, -1]]


def test_equal_prompts_keep_a_branch_each():
    prompts = [make_prompt([5, 6, 7], group=g) for g in "ab"] + [make_prompt([5], group="c")]
    _, _, [batch] = packed(prompts, BatchShape(1, 9, 4, 9, 2), groups=4)
    assert sorted(read_batch(batch, prompts)) == [0, 1, 2]


def test_trees_share_a_row_and_trunks_come_first_written_once():
    prompts = [make_prompt([1, 2, 3, g], "q", str(g)) for g in (7, 8)]
    prompts += [make_prompt([4, g], "r", str(g)) for g in (7, 8)]
    _, _, [batch] = packed(prompts, BatchShape(1, 9, 4, 9, 2), groups=2)
    assert batch["tokens"].tolist() == [[1, 2, 3, 4, 7, 8, 7, 8, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 3, 3, 1, 1, 0]]
    assert batch["trees"].tolist() == [[1, 1, 1, 2, 1, 1, 2, 2, 0]]
    assert batch["branches"].tolist() == [[0, 0, 0, 0, 1, 2, 1, 2, 0]]
    assert batch["answer_index"].tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("tokens", "answers", "groups", "sizes"),
    [
        (40, 99, 99, [4, 4, 2]),  # 20 + 4 * 5 tokens fill a row
        (39, 99, 99, [3, 3, 3, 1]),
        (99, 6, 99, [6, 4]),
        (99, 99, 7, [7, 3]),
        (25, 99, 99, [1] * 10),
    ],
)
def test_trees_that_do_not_fit_are_split(tokens, answers, groups, sizes):
    prompts = [make_prompt([*range(100, 120), *[g] * 5], group=str(g)) for g in range(10)]
    [question] = group_questions(prompts)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    trees = cut(question, order, groups, BatchShape(1, tokens, answers, tokens, 2))
    assert [len(tree.picks) for tree in trees] == sizes
    assert [i for tree in trees for i in tree.picks] == order
    assert [len(tree) for tree in trees] == [20 + 5 * n for n in sizes]


def test_a_tree_is_split_where_it_fills_more_of_a_row_than_its_trunk_costs():
    prompts = [make_prompt([q, q, g], str(q), str(g)) for q in range(2) for g in range(8)]  # 2 trees of 10 tokens
    shape = BatchShape(1, 16, 99, 99, 2)
    _, rows, batches = packed(prompts, shape, groups=8)
    assert [[len(tree.picks) for tree in row] for row in rows] == [[8, 4], [4]]
    assert sorted(i for batch in batches for i in read_batch(batch, prompts)) == list(range(16))
    _, rows, _ = packed(prompts, dataclasses.replace(shape, seq_len=14), groups=8)
    assert [[len(tree.picks) for tree in row] for row in rows] == [[8], [8]]  # only 2 branches would fit


def test_room_for_trunks_lets_rows_be_filled() -> None:
    """Rows have room for the longest trunk, and are full but for a few per cent, whatever the size of trees."""
    draw = np.random.default_rng(0)
    prompts = []
    for q, length in enumerate(draw.integers(60, 131, 60)):
        trunk = draw.integers(1, 1000, length).tolist()
        prompts += [make_prompt([*trunk, 1000 + g, *[7] * 12], f"q{q}", f"g{g}", [0.5, 0.5]) for g in range(46)]
    questions = group_questions(prompts)
    for tokens, groups in itertools.product((512, 1024, 2048), (1, 8, 46)):
        room = trunk_room(questions, tokens, groups)
        assert 130 <= room <= tokens
        shape = BatchShape(1, tokens, tokens // 4, room, 2)
        trees = [tree for q in questions for tree in cut(q, range(46), groups, shape)]
        rows = pack(trees, shape)[:-1]
        assert np.mean([sum(map(len, row)) for row in rows]) > 0.85 * tokens, (tokens, groups)


def test_a_trunk_without_room_is_refused():
    with pytest.raises(ValueError, match=r"a trunk of 3 tokens.*2"):
        packed([make_prompt([1, 2, 3, 4])], BatchShape(1, 9, 4, 2, 2), groups=1)


@pytest.mark.parametrize("limit", ["seq_len", "answers_per_seq", "trunk_len"])
def test_a_row_is_full_when_any_limit_is_reached(limit):
    prompts = [make_prompt([q, q, g], str(q), str(g)) for q in range(6) for g in range(3)]  # 6 trees of 5 tokens
    least = {"seq_len": 12, "answers_per_seq": 6, "trunk_len": 4}
    limits = dict.fromkeys(least, 99) | {limit: least[limit]}
    _, rows, _ = packed(prompts, BatchShape(1, **limits, options=2), groups=3)
    assert [len(row) for row in rows] == [2, 2, 2]


@pytest.mark.parametrize(("window", "chunk"), [(None, None), (4, None), (None, 5)])
@pytest.mark.parametrize("seed", SEEDS[:5])
def test_the_two_parts_see_what_is_visible_once(seed, window, chunk):
    prompts, shape, groups = random_prompts(seed), random_shape(seed), 1 + seed % 5
    questions, _, batches = packed(prompts, shape, groups)
    sizes = tree_shape(questions, shape)
    size, trunks = sizes.branch, sizes.trunks
    assert shape.seq_len % size == 0
    for batch in batches:
        on_trunk, near = (np.asarray(mask) for mask in visible_parts(arrays(batch), window, sizes, chunk))
        both = np.zeros((shape.batch_size, shape.seq_len, shape.seq_len), int)
        both[:, :, :trunks] += on_trunk
        for n in range(shape.seq_len // size):
            queries, first = slice(n * size, (n + 1) * size), max(0, (n - 1) * size)
            both[:, queries, first : (n + 1) * size] += near[:, n, :, -((n + 1) * size - first) :]
            assert n > 0 or not near[:, 0, :, :size].any(), "nothing is before the first block"
        np.testing.assert_array_equal(both, visible(arrays(batch), window, chunk))


@pytest.mark.parametrize(("window", "chunk"), [(1, None), (4, None), (None, None), (None, 5), (4, 5)])
def test_visible_follows_the_rule(window, chunk):
    prompts = random_prompts(3)
    _, _, batches = packed(prompts, BatchShape(3, 30, 6, 30, 5), groups=4)
    batch = batches[0]
    rows, tokens = batch["trees"].shape
    expected = np.zeros((rows, tokens, tokens), bool)
    for b, query, key in np.ndindex(expected.shape):
        tree, branch, position = (batch[name][b] for name in ("trees", "branches", "positions"))
        expected[b, query, key] = (
            key <= query
            and tree[query] == tree[key] != 0
            and branch[key] in (0, branch[query])
            and (window is None or position[query] - position[key] < window)
            and (chunk is None or position[query] // chunk == position[key] // chunk)
        )
    assert expected[batch["trees"] > 0].any(-1).all()  # a token sees at least itself
    np.testing.assert_array_equal(visible(arrays(batch), window, chunk), expected)


def test_what_an_answer_sees_is_its_prompt():
    prompts = random_prompts(4)
    _, _, batches = packed(prompts, BatchShape(2, 40, 8, 40, 5), groups=4)
    for batch in batches:
        mask = np.asarray(visible(arrays(batch), None))
        for b, slot in np.argwhere(batch["prompt"] >= 0):
            seen = batch["tokens"][b, mask[b, batch["answer_index"][b, slot]]]
            assert seen.tolist() == prompts[batch["prompt"][b, slot]].tokens.tolist()
