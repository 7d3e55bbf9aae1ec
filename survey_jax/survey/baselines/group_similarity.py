"""How alike are two groups, going by their attributes alone?"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from survey_jax.survey import countries
from survey_jax.survey.table import Group
from survey_jax.survey.text import fold, is_country

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:k\b)?")
_AT_MOST = re.compile(r"\b(under|less|fewer|below|younger|up to|at most|before)\b|<")
_AT_LEAST = re.compile(r"\b(over|more|above|older|at least|after)\b|[>+]")
_BEYOND = 0.1  # an open end lies this share of its bound beyond it


def position(value: str) -> float | None:
    """Where a value stands among ordered ones such as ages, incomes and years; None if it has no number, or over two.

    >>> [position(v) for v in ("18-29", "30 to 44", "under 30", "65 or older", "$50,000 - $99,999", "female")]
    [23.5, 37.0, 27.0, 71.5, 74999.5, None]
    """
    text = fold(value)
    numbers = [float(n.rstrip("k").replace(",", "")) * (1000 if n.endswith("k") else 1) for n in _NUMBER.findall(text)]
    if len(numbers) == 2:
        return sum(numbers) / 2
    if len(numbers) != 1:
        return None
    side = -1 if _AT_MOST.search(text) else 1 if _AT_LEAST.search(text) else 0
    return numbers[0] * (1 + side * _BEYOND)


class GroupSimilarity:
    """Similarities of groups, one to three for each attribute; what each is worth is for others to find.

    - The same value: 1, else 0.
    - An attribute with an order (at least two positions, and more than half of its values have one), with positions
      x and y standardised over the distinct ones: "trend", x y, which goes on beyond the ages that train has; and
      "order", exp(-(x - y)^2 / 2), which bends.
    - Countries: the inner product of standardised `countries.features`, over their number.

    An attribute that one of two groups lacks says nothing: 0. Groups are as `text.same_group` gives them.

    Attributes:
      names: what each similarity compares.
    """

    def __init__(self, groups: Sequence[Group]):
        """Learns attributes, spreads and features from the groups of train."""
        self._attributes = sorted({a for group in groups for a, _ in group})
        self._scale: dict[str, tuple[float, float]] = {}  # mean and standard deviation of positions
        self._features: dict[str, tuple[DictVectorizer, StandardScaler]] = {}
        for attribute in self._attributes:
            values = sorted({v for group in groups for a, v in group if a == attribute})
            if is_country(attribute):
                known = [f for v in values if (f := countries.features(v))]
                if len(known) > 1:
                    vectorizer = DictVectorizer(sparse=False)
                    scaler = StandardScaler().fit(vectorizer.fit_transform(known))
                    self._features[attribute] = vectorizer, scaler
            else:
                places = [p for v in values if (p := position(v)) is not None]
                distinct = sorted(set(places))
                if len(distinct) > 1 and 2 * len(places) > len(values):
                    self._scale[attribute] = float(np.mean(distinct)), float(np.std(distinct))
        ordered = [f"{a}, {kind}" for a in self._scale for kind in ("trend", "order")]
        self.names = [*self._attributes, *ordered, *(f"{a}, facts" for a in self._features)]

    def between(self, left: Sequence[Group], right: Sequence[Group]) -> Iterator[Float[np.ndarray, "left right"]]:
        """The similarities of `names`, one after the other: there are many, and each may be large."""
        sides = [dict(group) for group in left], [dict(group) for group in right]
        for attribute in self._attributes:
            number: dict[str | None, int] = {None: -1}
            x, y = (np.array([number.setdefault(g.get(attribute), len(number)) for g in side]) for side in sides)
            yield ((x[:, None] == y) & (y >= 0)).astype(float)
        for attribute, (mean, spread) in self._scale.items():
            places = [np.array([position(g.get(attribute, "")) for g in side], float) for side in sides]
            x, y = ((p - mean) / spread for p in places)  # NaN where there is none
            yield np.nan_to_num(x[:, None] * y)
            yield np.nan_to_num(np.exp(-((x[:, None] - y) ** 2) / 2))
        for attribute, (vectorizer, scaler) in self._features.items():
            facts = []
            for side in sides:
                known = [countries.features(g.get(attribute, "")) for g in side]
                scaled = scaler.transform(vectorizer.transform(known))
                facts.append(np.where(np.array([bool(f) for f in known])[:, None], scaled, 0.0))
            yield facts[0] @ facts[1].T / facts[0].shape[1]
