"""Batches as a pure function of (seed, step): nothing to checkpoint but the step number.

Every process packs all rows, which is cheap, and makes arrays of those that its devices hold.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.trees import Batch, BatchShape, Tree, cut, group_questions, pack, to_batch
from survey_jax.parallel.sharding import ROWS


class Batches:
    """Training batches in a seeded order, with every prompt at most once an epoch and questions mixed within a step.

    Args:
      shape: fixed sizes of one microbatch.
      groups: how many groups of one question share a tree. Larger trees share more prompt tokens; smaller ones put more
        different questions into a step.
      question_answers: the most answers to one question in an epoch, drawn anew for each epoch; 0 = all.
      survey_share: the most that one survey has of an epoch's answers, by leaving out some of its questions, drawn anew
        for each epoch; 0 = all. The smallest survey is never cut.
      microbatches: how many make a step.
      here: which rows of a microbatch this process needs, see `local_rows`; None: all.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        shape: BatchShape,
        *,
        groups: int,
        question_answers: int = 0,
        survey_share: float = 0.0,
        microbatches: int = 1,
        seed: int = 0,
        here: Sequence[int] | None = None,
    ):
        self.here = range(shape.batch_size) if here is None else here
        self.prompts, self.shape, self.groups, self.microbatches, self.seed = prompts, shape, groups, microbatches, seed
        self.question_answers, self.survey_share = question_answers or len(prompts), survey_share
        self.questions = group_questions(prompts)
        self._epochs: dict[int, list[list[Tree]]] = {}
        self._first_step = [0]  # of each epoch; packing differs between epochs, and so does their number of steps

    def batch(self, step: int) -> Batch:
        """The batch of a step: arrays of `trees.empty_batch` with a leading microbatch axis [M, rows here, ...]."""
        epoch = 0
        while step >= self.first_step(epoch + 1):
            epoch += 1
        count = self.microbatches
        size = self.shape.batch_size * count
        start = (step - self.first_step(epoch)) * size
        rows = self._rows(epoch)[start : start + size]
        # Strided, so that the padding of a short last batch is spread over all microbatches.
        parts = [_lay_out(rows[m::count], self.here, self.prompts, self.shape) for m in range(count)]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def first_step(self, epoch: int) -> int:
        """The step at which an epoch begins."""
        while len(self._first_step) <= epoch:
            rows = len(self._rows(len(self._first_step) - 1))
            self._first_step.append(self._first_step[-1] + -(-rows // (self.shape.batch_size * self.microbatches)))
        return self._first_step[epoch]

    def steps(self, epochs: float) -> int:
        """The steps of so many epochs of the first one's length, at least 1; others differ by a step at most."""
        return max(1, round(epochs * self.first_step(1)))

    def _rows(self, epoch: int) -> list[list[Tree]]:
        if epoch not in self._epochs:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            drawn = [rng.permutation(len(q.members))[: self.question_answers] for q in self.questions]
            trees: list[Tree] = []
            for i in self._balanced(list(map(len, drawn)), rng):
                trees += cut(self.questions[i], drawn[i], self.groups, self.shape)
            rows = pack([trees[i] for i in rng.permutation(len(trees))], self.shape)
            self._epochs = {epoch: [rows[i] for i in rng.permutation(len(rows))]}
        return self._epochs[epoch]

    def _balanced(self, answers: Sequence[int], rng: np.random.Generator) -> Sequence[int]:
        """The questions of an epoch, given how many answers each would have."""
        if not self.survey_share:
            return range(len(answers))
        surveys = [self.prompts[question.members[0]].answer.survey for question in self.questions]
        total: Counter[str] = Counter()
        for survey, count in zip(surveys, answers, strict=True):
            total[survey] += count
        most, used, kept = most_of_a_survey(list(total.values()), self.survey_share), Counter[str](), []
        for i in rng.permutation(len(answers)).tolist():
            if used[surveys[i]] + answers[i] <= most:
                used[surveys[i]] += answers[i]
                kept.append(i)
        return sorted(kept)

    def fingerprint(self) -> str:
        """Hash of everything that batches depend on: tokens, targets, packing and seed.

        But for priors: they follow from the training rows, and their last digits from the machine.
        """
        packing: tuple[object, ...] = (self.shape, self.groups, self.question_answers, self.microbatches, self.seed)
        if self.survey_share:
            packing += (self.survey_share,)
        digest = hashlib.sha256(repr(packing).encode())
        for prompt in self.prompts:
            digest.update(prompt.tokens.tobytes())
            digest.update(np.array(prompt.target).tobytes())
        return digest.hexdigest()[:16]

    def report(self) -> str:
        """One line about the first epoch: how full rows are, and how much computation sharing saves."""
        rows = self._rows(0)
        trees = [tree for row in rows for tree in row]
        used = [self.prompts[tree.question.members[i]] for tree in trees for i in tree.picks]
        computed = sum(map(len, trees))
        separate = sum(len(prompt.tokens) for prompt in used)
        steps = self.first_step(1)
        return (
            f"{len(used)} of {len(self.prompts)} answers to {len(self.questions)} questions in {steps} steps an epoch "
            f"({len(used) / steps:.1f} answers a step); rows {computed / (len(rows) * self.shape.seq_len):.1%} "
            f"full; sharing computes {computed} of {separate} tokens ({1 - computed / separate:.1%} saved)"
        )


def most_of_a_survey(answers: Sequence[int], share: float) -> int:
    """How many answers a survey may have, so that none has more than a share of what is left; at least the smallest's.

    >>> most_of_a_survey([900, 60, 40], share=0.5)
    100
    """
    sizes = sorted(answers, reverse=True)
    for cut_down in range(len(sizes)):  # the largest ones, to the same size
        rest = sum(sizes[cut_down:])
        most = share * rest / (1 - share * cut_down) if share * cut_down < 1 else 0.0
        if most >= sizes[cut_down]:
            return int(most)
    return sizes[-1]


def evaluation_batches(prompts: Sequence[Prompt], shape: BatchShape, here: Sequence[int] | None = None) -> list[Batch]:
    """Batches with each prompt once, in trees as large as rows allow; the last batch is padded with weight 0."""
    trees: list[Tree] = []
    for question in group_questions(prompts):
        trees += cut(question, range(len(question.members)), shape.answers_per_seq, shape)
    rows = pack(trees, shape)
    here = range(shape.batch_size) if here is None else here
    return [
        _lay_out(rows[i : i + shape.batch_size], here, prompts, shape) for i in range(0, len(rows), shape.batch_size)
    ]


def _lay_out(rows: list[list[Tree]], here: Sequence[int], prompts: Sequence[Prompt], shape: BatchShape) -> Batch:
    """Arrays of the rows `here` of a batch, which may have fewer rows than it should."""
    local = [rows[i] if i < len(rows) else [] for i in here]
    return to_batch(local, prompts, dataclasses.replace(shape, batch_size=len(here)))


def local_rows(mesh: Mesh, rows: int) -> list[int]:
    """The indices of the rows of a batch that the devices of this process hold, in order."""
    places = NamedSharding(mesh, ROWS).addressable_devices_indices_map((rows,)).values()
    return sorted({row for place in places if place for row in range(rows)[place[0]]})


def to_device(batch: Batch, mesh: Mesh, rows: int, microbatched: bool) -> dict[str, jax.Array]:
    """Puts a batch on the mesh, its rows split over the data axes.

    Args:
      batch: the `local_rows` of this process.
      rows: how many the whole batch has.
      microbatched: whether there is an axis before that of rows.
    """
    sharding, axis = NamedSharding(mesh, P(None, *ROWS) if microbatched else ROWS), int(microbatched)
    shapes = {name: (*array.shape[:axis], rows, *array.shape[axis + 1 :]) for name, array in batch.items()}
    return {
        name: jax.make_array_from_process_local_data(sharding, array, shapes[name]) for name, array in batch.items()
    }


def on_every_device(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """Puts a whole array, which all processes have, on each device of the mesh."""
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, P()), array.__getitem__)


def prefetch(batches: Batches, first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) for first <= step < last; a thread makes the next batch meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(batches.batch, first)
        for step in range(first, last):
            batch = coming.result()
            coming = pool.submit(batches.batch, step + 1)
            yield step, batch
