"""Answer trees: the prompts of a question share the tokens of their common start, and trees are packed into rows.

A tree is one question. Its trunk is the longest token prefix that all prompts of the question have in common; a branch
is the rest of one prompt and ends at the answer position.
"""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from survey_jax.inputs.prompts import Prompt
from survey_jax.model.attention_mask import SPLASH_BLOCK, TreeShape

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Fixed sizes of a batch.

    Attributes:
      batch_size: packed sequences (B).
      seq_len: tokens of a sequence (T).
      answers_per_seq: answers of a sequence at most (A).
      trunk_len: tokens at the beginning of a sequence that trunks may take (P).
      options: option letters (K).
    """

    batch_size: int
    seq_len: int
    answers_per_seq: int
    trunk_len: int
    options: int


@dataclasses.dataclass(frozen=True)
class Question:
    """All prompts of one question, as trunk and branches. `members` are their indices in the list of prompts."""

    trunk: np.ndarray
    branches: tuple[np.ndarray, ...]
    members: np.ndarray


@dataclasses.dataclass(frozen=True)
class Tree:
    """Some branches of one question, given by index."""

    question: Question
    picks: tuple[int, ...]

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.question.trunk) + sum(len(self.question.branches[i]) for i in self.picks)


def group_questions(prompts: Sequence[Prompt]) -> list[Question]:
    """Groups prompts by question and options, in order of first appearance; every branch has at least one token."""
    members: defaultdict[object, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        members[prompt.answer.question_key, prompt.answer.options].append(index)
    questions = []
    for indices in members.values():
        tokens = [prompts[i].tokens.tolist() for i in indices]
        common = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
        shared = min(len(list(common)), min(map(len, tokens)) - 1)
        branches = tuple(prompts[i].tokens[shared:] for i in indices)
        questions.append(Question(prompts[indices[0]].tokens[:shared], branches, np.array(indices)))
    return questions


def cut(question: Question, order: Sequence[int] | np.ndarray, groups: int, shape: BatchShape) -> list[Tree]:
    """Cuts a question's branches, in the given order, into trees of at most `groups` branches that fit a row."""
    trees: list[Tree] = []
    picks: list[int] = []
    room = 0
    for i in order:
        need = len(question.branches[i])
        if not picks or len(picks) == min(groups, shape.answers_per_seq) or need > room:
            if picks:
                trees.append(Tree(question, tuple(picks)))
            picks, room = [], shape.seq_len - len(question.trunk)
        picks.append(int(i))
        room -= need
    trees.append(Tree(question, tuple(picks)))
    return trees


def pack(trees: Sequence[Tree], shape: BatchShape, open_rows: int = 64) -> list[list[Tree]]:
    """First-fit packing of trees into rows. Only the newest `open_rows` stay open, so the order is roughly preserved.

    A tree that fits nowhere is split if that fills more of the newest row than repeating the trunk costs.
    """
    rows: list[list[Tree]] = []
    for tree in trees:
        if len(tree.question.trunk) > shape.trunk_len:
            raise ValueError(f"a trunk of {len(tree.question.trunk)} tokens: rows have room for {shape.trunk_len}")
        rest = tree
        while rest.picks:
            row = next((row for row in rows[-open_rows:] if _room(row, rest, shape) == len(rest.picks)), None)
            if row is None and rows:
                part = Tree(rest.question, rest.picks[: _room(rows[-1], rest, shape)])
                row = rows[-1] if len(part) > 2 * len(rest.question.trunk) else None
            if row is None:
                rows.append(row := [])
            count = max(1, _room(row, rest, shape))
            row.append(Tree(rest.question, rest.picks[:count]))
            rest = Tree(rest.question, rest.picks[count:])
    return rows


def _room(row: list[Tree], tree: Tree, shape: BatchShape) -> int:
    """How many of a tree's branches still fit into a row."""
    trunk = len(tree.question.trunk)
    if sum(len(t.question.trunk) for t in row) + trunk > shape.trunk_len:
        return 0
    tokens = itertools.accumulate(len(tree.question.branches[i]) for i in tree.picks)
    left = shape.seq_len - trunk - sum(map(len, row))
    fit = sum(total <= left for total in tokens)
    return min(fit, shape.answers_per_seq - sum(len(t.picks) for t in row))


def empty_batch(shape: BatchShape) -> Batch:
    """A batch of padding only: it defines the arrays of a batch, with shapes and dtypes."""
    b, t, a, k = shape.batch_size, shape.seq_len, shape.answers_per_seq, shape.options
    tokens = {name: np.zeros((b, t), np.int32) for name in ("tokens", "positions", "trees", "branches")}
    return tokens | {
        "answer_index": np.zeros((b, a), np.int32),
        "option_mask": np.zeros((b, a, k), bool),
        "target": np.zeros((b, a, k), np.float32),
        "weight": np.zeros((b, a), np.float32),
        "prompt": np.full((b, a), -1, np.int32),  # the index of the prompt that is answered here
    }


def to_batch(rows: Sequence[Sequence[Tree]], prompts: Sequence[Prompt], shape: BatchShape) -> Batch:
    """Writes packed rows into arrays, trunks first. Fewer rows than `shape.batch_size` leave padding of weight 0.

    Where prompts start from a prior, there is one array more: "prior", its logarithms.
    """
    batch = empty_batch(shape)
    if prompts and prompts[0].prior is not None:
        batch["prior"] = np.zeros_like(batch["target"])
    for b, row in enumerate(rows):
        at = slot = 0
        for number, tree in enumerate(row, start=1):
            at = _write(batch, b, at, tree.question.trunk, 0, number, 0)
        for number, tree in enumerate(row, start=1):
            for branch, i in enumerate(tree.picks, start=1):
                at = _write(batch, b, at, tree.question.branches[i], len(tree.question.trunk), number, branch)
                index = int(tree.question.members[i])
                probs = prompts[index].target
                batch["answer_index"][b, slot] = at - 1
                batch["option_mask"][b, slot, : len(probs)] = True
                batch["target"][b, slot, : len(probs)] = probs
                batch["weight"][b, slot] = 1.0
                if (prior := prompts[index].prior) is not None:
                    batch["prior"][b, slot, : len(probs)] = np.log(prior[list(prompts[index].order)])
                batch["prompt"][b, slot] = index
                slot += 1
    return batch


def _write(batch: Batch, b: int, at: int, tokens: np.ndarray, position: int, tree: int, branch: int) -> int:
    span = slice(at, at + len(tokens))
    batch["tokens"][b, span] = tokens
    batch["positions"][b, span] = np.arange(position, position + len(tokens))
    batch["trees"][b, span] = tree
    batch["branches"][b, span] = branch
    return at + len(tokens)


def trunk_room(questions: Sequence[Question], tokens: int, groups: int) -> int:
    """How many tokens of a row to reserve for trunks.

    There is room for as many trunks as the trees that fill a row on average and one more, since trees are split
    between rows, and at least for the longest one.
    """
    trunks = np.array([len(q.trunk) for q in questions])
    branches = np.array([min(groups, len(q.branches)) * np.mean([len(x) for x in q.branches]) for q in questions])
    room = max(trunks.max(), trunks.mean() * (tokens / (trunks + branches).mean() + 1))
    return min(tokens, 16 * math.ceil(room / 16))


def tree_shape(questions: Sequence[Question], shape: BatchShape, back_end: str = "two_part") -> TreeShape:
    """The sizes that attention may rely on for rows of these questions; the block size divides the row length.

    cuDNN computes 64 queries at a time and needs even sizes, so its blocks have at least 64 tokens if a row has.
    """
    if back_end == "splash":
        return TreeShape(shape.seq_len, SPLASH_BLOCK, back_end)
    cudnn = back_end == "cudnn"
    longest = max(len(b) for q in questions for b in q.branches)
    least = min(max(longest, 64), shape.seq_len) if cudnn else longest
    size = next(s for s in range(least, shape.seq_len + 1) if shape.seq_len % s == 0 and not (cudnn and s % 2))
    return TreeShape(shape.trunk_len, size, back_end)
