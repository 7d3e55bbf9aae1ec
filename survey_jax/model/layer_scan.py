"""Runs a model's layers in order: loops over stacked parameters, also where layers of several shapes take turns."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from survey_jax.model.architecture import Segment, Stack

Carry = TypeVar("Carry")
Tree = Any


def over_layers(
    segments: tuple[Segment, ...],
    stacked: Mapping[str, Tree],
    layers: Callable[[Stack, Tree, Carry], Carry],
    carry: Carry,
) -> Carry:
    """Applies all layers to `carry`. A pattern that repeats is compiled once.

    Args:
      stacked: by a stack's name, arrays of all its layers, each with a leading layer axis.
      layers: (a stack, the arrays of some of its layers in succession, carry) -> carry after those layers.
    """
    done = dict.fromkeys(stacked, 0)
    for segment in segments:
        counts: Counter[str] = Counter()
        for stack, count in segment.runs:
            counts[stack.name] += count
        parts = {}
        for name, count in counts.items():
            first, done[name] = done[name], done[name] + count * segment.repeats
            parts[name] = _part(stacked[name], first, done[name])
        if segment.repeats == 1:
            carry = _pattern(segment, parts, layers, carry)
            continue
        by_turn = {
            name: jax.tree.map(lambda a, n=counts[name]: a.reshape(-1, n, *a.shape[1:]), part)
            for name, part in parts.items()
        }

        def turn(carry: Carry, parts: dict[str, Tree], segment: Segment = segment) -> tuple[Carry, None]:
            return _pattern(segment, parts, layers, carry), None

        carry, _ = jax.lax.scan(turn, carry, by_turn)
    return carry


def _pattern(
    segment: Segment, parts: Mapping[str, Tree], layers: Callable[[Stack, Tree, Carry], Carry], carry: Carry
) -> Carry:
    """Applies the layers of a segment's pattern, once."""
    done = dict.fromkeys(parts, 0)
    for stack, count in segment.runs:
        first, done[stack.name] = done[stack.name], done[stack.name] + count
        carry = layers(stack, _part(parts[stack.name], first, done[stack.name]), carry)
    return carry


def _part(tree: Tree, first: int, last: int) -> Tree:
    return jax.tree.map(lambda a: a if last - first == len(a) else a[first:last], tree)
