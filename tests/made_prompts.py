"""Made-up prompts, and a reading of batches that does not use the code that makes them."""

from collections.abc import Sequence

import numpy as np

from survey_jax.inputs.prompts import Prompt, Prompter, limited
from survey_jax.survey.table import Answer


def encode(prompter: Prompter, rows: Sequence[Answer], max_tokens: int = 1000, drop_long: bool = False) -> list[Prompt]:
    """The rows' prompts of at most so many tokens."""
    return limited(prompter.tokenise(rows)[0], max_tokens, drop_long)


def make_prompt(tokens, question: str = "q", group: str = "g", probs=(0.25, 0.75), survey: str = "S") -> Prompt:
    options = tuple(f"o{k}" for k in range(len(probs)))
    row = Answer(survey, question, "text", options, (("country", group),), tuple(probs))
    return Prompt(row, np.array(tokens, np.int32), tuple(range(len(row.options))))


def random_prompts(seed: int, questions: int = 7) -> list[Prompt]:
    """Shuffled prompts of up to 25 tokens and 5 options; few token ids, so that prefixes often agree by chance."""
    rng = np.random.default_rng(seed)
    prompts = []
    for q in range(questions):
        start, options = rng.integers(1, 4, rng.integers(0, 18)), rng.integers(2, 6)
        for g in range(rng.integers(1, 9)):
            tokens = [*start, *rng.integers(1, 4, rng.integers(1, 8))]
            prompts.append(make_prompt(tokens, f"q{q}", f"g{g}", rng.dirichlet(np.ones(options))))
    return [prompts[i] for i in rng.permutation(len(prompts))]


def read_batch(batch: dict[str, np.ndarray], prompts: list[Prompt]) -> list[int]:
    """Checks every answer and every padding of a batch [B, ...]; returns the indices of its prompts."""
    found = []
    for b, slot in np.ndindex(batch["weight"].shape):
        index, last = batch["prompt"][b, slot], batch["answer_index"][b, slot]
        if index < 0:
            assert not any(batch[name][b, slot].any() for name in ("weight", "target", "option_mask", "answer_index"))
            continue
        found.append(int(index))
        tree, branch = batch["trees"][b, last], batch["branches"][b, last]
        path = [
            i for i, (t, r) in enumerate(zip(batch["trees"][b], batch["branches"][b], strict=True))
            if t == tree and r in (0, branch)
        ]  # fmt: skip
        assert tree > 0
        assert branch > 0
        assert path[-1] == last
        assert batch["tokens"][b, path].tolist() == prompts[index].tokens.tolist()
        assert batch["positions"][b, path].tolist() == list(range(len(path)))
        probs = prompts[index].answer.probs
        rest = [0] * (batch["target"].shape[-1] - len(probs))
        np.testing.assert_array_equal(batch["target"][b, slot], np.array([*probs, *rest], np.float32))
        assert batch["option_mask"][b, slot].tolist() == [True] * len(probs) + [False] * len(rest)
        assert batch["weight"][b, slot] == 1
    padding = batch["trees"] == 0
    assert not any(batch[name][padding].any() for name in ("tokens", "positions", "branches"))
    # No token belongs to nobody: a branch a prompt, a tree at least one branch.
    branches = {
        (b, batch["trees"][b, t], batch["branches"][b, t])
        for b, t in np.argwhere(batch["branches"] > 0)  # [row, token]
    }
    trees = {(b, batch["trees"][b, t]) for b, t in np.argwhere(batch["trees"] > 0)}
    assert len(branches) == len(found)
    assert trees == {(b, tree) for b, tree, _ in branches}
    return found
