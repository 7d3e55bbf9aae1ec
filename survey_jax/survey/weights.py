"""What the weights of a survey's respondents do to its figures."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights in figures.

    Attributes:
      columns: the columns that they come from.
      people: all respondents.
      zero, none: how many of them have a weight of 0, and how many have none.
      mean, low, high: of the weights above 0; 0 where there are none.
      design_effect: Kish's n sum w^2 / (sum w)^2 over the weights above 0 (Kish 1965, Survey Sampling): how many times
        the variance of a share is what it would be with equal weights. 1: all are equal.
    """

    columns: tuple[str, ...]
    people: int
    zero: int
    none: int
    mean: float
    low: float
    high: float
    design_effect: float

    def describe(self) -> str:
        """In a line."""
        above = f"mean {self.mean:.3g}, from {self.low:.3g} to {self.high:.3g}"
        return (
            f"weights ({', '.join(self.columns)}): {above}, design effect {self.design_effect:.2f} (Kish); "
            f"of {self.people:,} respondents {self.zero / self.people:.1%} have weight 0 and "
            f"{self.none / self.people:.1%} have none"
        )


def weigh(weight: Float[np.ndarray, " respondents"], columns: tuple[str, ...]) -> Weights:
    """The figures of each respondent's weight; NaN: no weight.

    >>> found = weigh(np.array([1.0, 3.0, 0.0, np.nan]), ("w",))
    >>> found.mean, found.high, round(found.design_effect, 6), found.zero, found.none
    (2.0, 3.0, 1.25, 1, 1)
    """
    above = weight[weight > 0]
    zero, none = int((weight == 0).sum()), int(np.isnan(weight).sum())
    if not len(above):
        return Weights(columns, len(weight), zero, none, 0.0, 0.0, 0.0, 1.0)
    scaled = above / above.max()  # whatever unit the weights have, their squares stay numbers
    effect = len(scaled) * float((scaled**2).sum()) / float(scaled.sum()) ** 2
    mean, low, high = (float(x) for x in (above.mean(), above.min(), above.max()))
    return Weights(columns, len(weight), zero, none, mean, low, high, effect)
