"""The sizes of batches that a trained run predicts with: long sequences for many groups, short ones for few."""

import pytest

from made_prompts import make_prompt
from survey_jax.inference.loaded_run import LONG_SEQ, roomy
from survey_jax.inputs.trees import BatchShape

SHAPE = BatchShape(batch_size=4, seq_len=512, answers_per_seq=16, trunk_len=64, options=5)


def asked(groups: int):
    """Two questions of 60 common tokens put to so many groups, of 15 tokens each."""
    words = [1] * 59
    return [make_prompt([question, *words, *[group % 7 + 2] * 15], f"q{question}", f"g{group}")
            for question in (1, 2) for group in range(groups)]  # fmt: skip


@pytest.mark.parametrize(("groups", "seq_len"), [(3, 512), (30, 512), (31, 1024), (100, 2048), (1000, LONG_SEQ)])
def test_sequences_hold_what_is_asked_of_a_question(groups: int, seq_len: int) -> None:
    found = roomy(SHAPE, asked(groups), 1)
    assert found.seq_len == seq_len
    assert found.batch_size * found.seq_len == SHAPE.batch_size * SHAPE.seq_len
    assert found.answers_per_seq * 15 >= found.seq_len  # tokens run out before answers do


def test_a_batch_still_divides_over_devices_and_is_never_shorter_than_the_runs() -> None:
    assert roomy(SHAPE, asked(100), 4).batch_size == 4
    long = BatchShape(batch_size=2, seq_len=4096, answers_per_seq=16, trunk_len=64, options=5)
    assert roomy(long, asked(1000), 1).seq_len == 4096
