"""Stacks of layers of several shapes, and the order in which the decoder runs them."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from survey_jax.model.architecture import DecoderConfig, LayerKind, segments, stacks
from survey_jax.model.layer_scan import over_layers
from survey_jax.model.rotary import Rotary
from survey_jax.pretrained.families import decoder_config
from tiny import FAMILIES, SIZES

LLAMA, _ = decoder_config(SIZES | FAMILIES["llama"], "tiny")
NARROW, WIDE, SPARSE = (LayerKind(Rotary(theta=1e4), head_width=width) for width in (4, 8, 16))
KINDS = {"n": NARROW, "w": WIDE, "s": SPARSE}


def of_layers(letters: str) -> DecoderConfig:
    kinds = tuple(KINDS.values())
    order = tuple(list(KINDS).index(letter) for letter in letters)
    return dataclasses.replace(LLAMA, layers=len(letters), kinds=kinds, layer_kinds=order)


def patterns(c: DecoderConfig) -> list[tuple[int, list[tuple[str, int]]]]:
    return [(s.repeats, [(stack.name, count) for stack, count in s.runs]) for s in segments(c)]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("nnnn", [(1, [("blocks", 4)])]),
        ("nnnnnw" * 8, [(8, [("blocks", 5), ("blocks_1", 1)])]),
        ("nnw" * 4 + "nn", [(4, [("blocks", 2), ("blocks_1", 1)]), (1, [("blocks", 2)])]),
        ("nwnw" + "sss", [(2, [("blocks", 1), ("blocks_1", 1)]), (1, [("blocks_2", 3)])]),
        ("nwnsnwns", [(2, [("blocks", 1), ("blocks_1", 1), ("blocks", 1), ("blocks_2", 1)])]),
    ],
)
def test_patterns_that_repeat(letters: str, expected: list[tuple[int, list[tuple[str, int]]]]) -> None:
    assert patterns(of_layers(letters)) == expected


@pytest.mark.parametrize(
    "letters", ["nnnn", "nnnnnw" * 3, "nnw" * 4 + "nn", "nwnsnwns", "wnnswnnwnnsn", "nwsnwsnw", "sw"]
)
def test_layers_run_in_their_order(letters: str) -> None:
    """Each layer writes its own number at the next place."""
    c = of_layers(letters)
    numbers = {stack.name: np.array(stack.layers) for stack in stacks(c)}
    assert sorted(np.concatenate(list(numbers.values()))) == list(range(len(letters)))

    def layers(stack, some, carry):
        written, at = carry
        assert all(c.kinds[c.layer_kinds[n]] in stack.kinds for n in stack.layers)
        for i in range(len(some)):
            written, at = written.at[at].set(some[i]), at + 1
        return written, at

    written, _ = over_layers(segments(c), numbers, layers, (jnp.full(len(letters), -1), 0))
    assert list(written) == list(range(len(letters)))


def sizes(c: DecoderConfig) -> Sequence[int]:
    return [len(stack.layers) for stack in stacks(c)]


def test_kinds_of_one_shape_share_a_stack() -> None:
    gemma, _ = decoder_config(SIZES | FAMILIES["gemma3"], "tiny")
    assert len(gemma.kinds) == 2
    assert sizes(gemma) == [3]
