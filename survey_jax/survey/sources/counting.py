"""Weighted counts of answers by group, in one pass over the respondents."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Counts:
    """G groups by K options.

    Attributes:
      counts: sum of weights per option.
      n: respondents who answered, unweighted.
      n_effective: Kish's effective sample size, (sum w)^2 / sum w^2, of those respondents; 0 where n is 0.
    """

    counts: Float[np.ndarray, "g k"]
    n: Int[np.ndarray, " g"]
    n_effective: Float[np.ndarray, " g"]


def count(
    groups: Int[np.ndarray, " r"],
    options: Int[np.ndarray, " r"],
    weights: Float[np.ndarray, " r"],
    size: tuple[int, int],
) -> Counts:
    """Counts respondents by group and option.

    Args:
      groups, options: index of each respondent's group and option; -1 for none: such respondents do not count.
      weights: of each respondent; ones for plain counts.
      size: the number of groups and of options.
    """
    valid = (groups >= 0) & (options >= 0)
    group, weight = groups[valid], weights[valid]
    cells = np.bincount(group * size[1] + options[valid], weight, size[0] * size[1]).reshape(size).astype(float)
    total, squares = (np.bincount(group, w, size[0]) for w in (weight, weight**2))
    effective = np.divide(total**2, squares, out=np.zeros(size[0]), where=squares > 0)
    return Counts(cells, np.bincount(group, minlength=size[0]), effective)
