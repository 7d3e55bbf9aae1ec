"""Losses: the distance between the predicted distribution of a row and the human one.

A loss takes the `logits` of the option letters, the human shares `target`, and the `mask` of options that exist, all
[..., K], and returns one float32 number a row, [...]. Options that do not exist have no effect; gradients are finite
where shares are zero and where predictions vanish. The `paper_...` losses are what the code published with Cao et al.
(NAACL 2025, arXiv 2502.07068) computes where that differs, for comparison only. Formulas and differences:
docs/reproduction.md.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

Options = Float[Array, "... K"]
Mask = Bool[Array, "... K"]
Rows = Float[Array, "..."]
Loss = Callable[[Options, Options, Mask], Rows]


def kl(logits: Options, target: Options, mask: Mask) -> Rows:
    """KL(target || prediction) in nats (Kullback & Leibler 1951), the loss of Cao et al. and of SubPOP."""
    return optax.losses.kl_divergence(_log_prediction(logits, mask), target, where=mask)


def cross_entropy(logits: Options, target: Options, mask: Mask) -> Rows:
    """-sum target log prediction, in nats: the mean over respondents of -log of what was predicted for their answer.

    It is `kl` plus the entropy of the human answers, which no model can change: it has the same gradient.
    """
    return -jnp.sum(target * _log_prediction(logits, mask), axis=-1, where=mask)


def jsd(logits: Options, target: Options, mask: Mask) -> Rows:
    """Jensen-Shannon divergence in nats, in [0, log 2] (Lin 1991)."""
    return _jsd_terms(logits, target, mask, reverse=False)


def wasserstein(logits: Options, target: Options, mask: Mask) -> Rows:
    """Earth mover's distance over its maximum K - 1, in [0, 1], options one step apart in the order of their letters.

    A batch does not say which questions are ordinal, so nominal ones count as if the order in which they are listed
    were a scale.
    """
    ahead = jnp.cumsum(jnp.where(mask, jnp.exp(_log_prediction(logits, mask)) - target, 0), axis=-1)
    return jnp.sum(jnp.abs(ahead), axis=-1, where=mask) / jnp.maximum(_count(mask) - 1, 1)


def paper_kl(logits: Options, target: Options, mask: Mask) -> Rows:
    """KL over the number of options: a row with more of them counts less."""
    return kl(logits, target, mask) / _count(mask)


def paper_jsd(logits: Options, target: Options, mask: Mask) -> Rows:
    """(KL(m || p') + KL(m || q)) / 2 over the number of options, p' the softmax of the human shares, m between the two.

    The softmax of shares is close to uniform whatever people answered, and each KL is turned round.
    """
    softened = jax.nn.softmax(target, axis=-1, where=mask)
    return _jsd_terms(logits, jnp.where(mask, softened, 0), mask, reverse=True) / _count(mask)


def paper_wasserstein(logits: Options, target: Options, mask: Mask) -> Rows:
    """sum |logit - share|: no distance between distributions, for the logits have been through no softmax."""
    return jnp.sum(jnp.abs(logits - target), axis=-1, where=mask)


def paper_cross_entropy(logits: Options, target: Options, mask: Mask) -> Rows:
    """-log of what was predicted for the most frequent answer, in nats; on ties, the first one. The rest is ignored."""
    mode = jnp.argmax(target, axis=-1, keepdims=True)
    return -jnp.take_along_axis(_log_prediction(logits, mask), mode, axis=-1)[..., 0]


LOSSES: Mapping[str, Loss] = {
    loss.__name__: loss
    for loss in (kl, jsd, wasserstein, cross_entropy, paper_kl, paper_jsd, paper_wasserstein, paper_cross_entropy)
}


def _log_prediction(logits: Options, mask: Mask) -> Options:
    """Log of the softmax over the options that exist; 0 elsewhere."""
    return jnp.where(mask, jax.nn.log_softmax(logits, axis=-1, where=mask), 0.0)


def _count(mask: Mask) -> Int[Array, "..."]:
    """The number of options of a row; 1 for an empty slot, as it is a divisor."""
    return jnp.maximum(jnp.sum(mask, axis=-1), 1)


def _jsd_terms(logits: Options, target: Options, mask: Mask, reverse: bool) -> Rows:
    """(KL(target || m) + KL(prediction || m)) / 2, or with both turned round; by logarithms, so that nothing is 0/0."""
    log_q = _log_prediction(logits, mask)
    log_p = jnp.log(jnp.maximum(target, jnp.finfo(target.dtype).tiny))  # a share of 0 weighs 0 wherever it matters
    log_m = jnp.logaddexp(log_p, log_q) - math.log(2)
    if reverse:
        terms = jnp.exp(log_m) * (2 * log_m - log_p - log_q)
    else:
        terms = target * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return jnp.sum(terms, axis=-1, where=mask) / 2
