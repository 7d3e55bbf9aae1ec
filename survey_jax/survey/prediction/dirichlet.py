"""A prediction with its error: a Dirichlet distribution over what the group's true shares may be.

Its mean is what is predicted, and its concentration k says how far to trust it. A share q then has the Beta
distribution of k q and k (1 - q), with variance q (1 - q) / (k + 1): that of the answers of k + 1 people. So k is what
the prediction is worth in interviews.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

Array = np.ndarray
LEAST_SHARE = 1e-4  # a share of 0 has no Beta distribution; nobody can rule out one in ten thousand


def intervals(
    shares: Float[Array, "... K"], concentration: Float[Array, "..."], level: float = 0.95
) -> tuple[Float[Array, "... K"], Float[Array, "... K"]]:
    """Central intervals of the shares, each for itself; 0 to 0 for an option that does not exist (share 0).

    >>> low, high = intervals(np.array([0.5, 0.5]), np.array(99.0))
    >>> low.round(2), high.round(2)
    (array([0.4, 0.4]), array([0.6, 0.6]))
    """
    a, b = _beta(shares, concentration)
    ends = (special.betaincinv(a, b, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
    low, high = (np.where(np.asarray(shares) > 0, end, 0.0) for end in ends)
    return low, high


def chance_below(
    shares: Float[Array, "... K"], concentration: Float[Array, "..."], values: Float[Array, "... K"]
) -> Float[Array, "... K"]:
    """The chance that each share is below a value, by its Beta distribution."""
    return np.asarray(special.betainc(*_beta(shares, concentration), np.clip(values, 0.0, 1.0)))


def with_sampling(concentration: Float[Array, "..."], n: Float[Array, "..."]) -> Float[Array, "..."]:
    """The concentration of what `n` people will answer, who are drawn from a group whose shares the prediction is of.

    The variance is that of the Dirichlet-multinomial distribution: q (1 - q) (1 / (k + 1) + k / (k + 1) / n).
    """
    return np.asarray(1 / (1 / (concentration + 1) + concentration / (concentration + 1) / n) - 1)


def misplaced(shares: Float[Array, "... K"], concentration: Float[Array, "..."]) -> Float[Array, "..."]:
    """The total variation distance to expect between prediction and truth, in [0, 1].

    Half the sum of the mean absolute deviations of the Beta distributions, which have a closed form (Gupta & Nadarajah
    2004, Handbook of Beta Distribution, page 37).

    >>> float(misplaced(np.array([0.5, 0.5]), np.array(100.0)).round(3))
    0.04
    """
    a, b = _beta(shares, concentration)
    powers = special.xlogy(a, a) + special.xlogy(b, b) - special.xlogy(a + b + 1, a + b)
    log = np.log(2.0) + powers - special.betaln(a, b)
    return np.asarray(np.where(np.asarray(shares) > 0, np.exp(log), 0.0).sum(-1) / 2)


def mean_interval(
    shares: Float[Array, "... K"], concentration: Float[Array, "..."], points: Float[Array, " K"], level: float = 0.95
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """The mean on a scale, and its central interval: a Beta distribution between its ends, of the same variance.

    Args:
      points: what each option is worth, such as 1 to 5.
    """
    low, high = float(np.min(points)), float(np.max(points))
    scaled = (np.asarray(points, float) - low) / (high - low)
    mean = (shares * scaled).sum(-1)
    variance = ((shares * scaled**2).sum(-1) - mean**2) / (concentration + 1)
    inside = np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE)
    size = np.maximum(inside * (1 - inside) / np.maximum(variance, 1e-12) - 1, 1e-3)
    ends = (special.betaincinv(inside * size, (1 - inside) * size, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
    bottom, top = ends
    value, bottom, top = (np.asarray(low + (high - low) * x) for x in (mean, bottom, top))
    return value, bottom, top


def _beta(shares: Float[Array, "... K"], concentration: Float[Array, "..."]) -> tuple[Array, Array]:
    q, k = np.clip(np.asarray(shares, float), LEAST_SHARE, 1 - LEAST_SHARE), np.asarray(concentration, float)[..., None]
    return k * q, k * (1 - q)
