"""Losses: values against scipy and torch, absent options, gradients where something is zero, and the step's loss."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.spatial.distance import jensenshannon

import tiny
from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig
from survey_jax.inputs.batches import Batches
from survey_jax.inputs.task import build_task, make_prompter
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.splits.split import SplitConfig
from survey_jax.training.build import build_model
from survey_jax.training.losses import LOSSES
from survey_jax.training.optimizer import make_schedule
from survey_jax.training.step import gradients, loss_sums

K = 6
SOUND = [loss for loss in LOSSES if not loss.startswith("paper_")]


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    """Rows of 2 to 6 options, some with zeros, one certain, and two empty slots; [3, 4, K] with the logits."""
    rng = np.random.default_rng(0)
    count = np.array([[6, 2, 3, 5], [4, 5, 2, 0], [3, 6, 0, 4]])
    mask = np.arange(K) < count[..., None]
    target = np.where(mask, rng.random(mask.shape), 0)
    target[0, 0, :4] = 0
    target[1, 0, [0, 2, 3]] = 0  # everybody gave one answer
    target /= np.maximum(target.sum(-1, keepdims=True), 1e-9)
    return {
        "logits": rng.normal(0, 3, mask.shape).astype(np.float32),
        "option_mask": mask,
        "target": target.astype(np.float32),
        "weight": np.where(count > 0, rng.random(count.shape), 0).astype(np.float32),
    }


def torch_kl(log_prediction: np.ndarray, target: np.ndarray) -> float:
    """Of one-dimensional tensors "batchmean" divides by the number of options."""
    torch = pytest.importorskip("torch")
    tensors = torch.tensor(log_prediction), torch.tensor(target)
    return float(torch.nn.functional.kl_div(*tensors, reduction="batchmean"))


def paper_jsd(logits: np.ndarray, p: np.ndarray) -> float:
    q, softened = scipy.special.softmax(logits), scipy.special.softmax(p)
    middle = (q + softened) / 2
    return (torch_kl(np.log(q), middle) + torch_kl(np.log(softened), middle)) / 2


def earth_mover(p: np.ndarray, q: np.ndarray) -> float:
    return scipy.stats.wasserstein_distance(range(len(p)), range(len(p)), p, q) / (len(p) - 1)


# (logits, human shares) of one row -> loss, by another implementation
REFERENCES = {
    "kl": lambda x, p: scipy.stats.entropy(p, scipy.special.softmax(x)),
    "jsd": lambda x, p: jensenshannon(p, scipy.special.softmax(x)) ** 2,
    "wasserstein": lambda x, p: earth_mover(p, scipy.special.softmax(x)),
    "cross_entropy": lambda x, p: scipy.stats.entropy(p) + scipy.stats.entropy(p, scipy.special.softmax(x)),
    "paper_kl": lambda x, p: torch_kl(scipy.special.log_softmax(x), p),
    "paper_jsd": paper_jsd,
    "paper_wasserstein": lambda x, p: np.linalg.norm(x - p, ord=1),
    "paper_cross_entropy": lambda x, p: -scipy.special.log_softmax(x)[p.argmax()],
}


def sums(logits: jax.Array | np.ndarray, batch: dict[str, np.ndarray], loss: str) -> tuple[jax.Array, jax.Array]:
    """(weighted sum of the loss, sum of weights) of a batch, as arrays of jax."""
    return loss_sums(jnp.asarray(logits), jax.tree.map(jnp.asarray, batch), loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_weighted_sum_equals_another_implementations(loss: str, batch: dict[str, np.ndarray]) -> None:
    expected = 0.0
    for slot in np.argwhere(batch["weight"] > 0):
        slot = tuple(slot)
        exists = batch["option_mask"][slot]
        logits, target = (batch[name][slot][exists].astype(np.float64) for name in ("logits", "target"))
        expected += batch["weight"][slot] * REFERENCES[loss](logits, target / target.sum())
    value, weight = sums(batch["logits"], batch, loss)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == pytest.approx(batch["weight"].sum(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_absent_options_and_empty_slots_change_nothing(loss: str, batch: dict[str, np.ndarray]) -> None:
    gradient = jax.grad(lambda logits: sums(logits, batch, loss)[0])
    plain = np.asarray(gradient(batch["logits"]))
    assert np.isfinite(plain).all()
    absent = ~(batch["option_mask"] & (batch["weight"] > 0)[..., None])
    assert not plain[absent].any()
    assert plain[~absent].any()
    other = np.where(absent, 50, batch["logits"])
    np.testing.assert_array_equal(plain, gradient(other))
    assert sums(other, batch, loss) == sums(batch["logits"], batch, loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_finite_where_everything_is_certain(loss: str) -> None:
    """One answer has all of the human shares; logits are so far apart that a prediction, right or wrong, vanishes."""
    logits = jnp.array([[[0.0, 300.0, 0.0], [0.0, -300.0, 0.0]]])
    target = jnp.array([[[0.0, 1.0, 0.0]] * 2])
    rows, back = jax.vjp(lambda logits: LOSSES[loss](logits, target, target >= 0), logits)
    assert np.isfinite(np.asarray(rows)).all()
    assert np.isfinite(np.asarray(back(jnp.ones_like(rows))[0])).all()
    if loss in (*SOUND, "paper_kl", "paper_cross_entropy"):  # the other two are not least where the prediction is right
        assert float(rows[0, 0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_microbatches_add_up(loss: str, batch: dict[str, np.ndarray]) -> None:
    whole = sums(batch["logits"], batch, loss)
    parts = [{name: array[i : i + 1] for name, array in batch.items()} for i in range(3)]
    found = [sums(part["logits"], part, loss) for part in parts]
    np.testing.assert_allclose(np.sum(found, axis=0), whole, rtol=1e-6)


def test_cross_entropy_has_the_gradient_of_kl(batch: dict[str, np.ndarray]) -> None:
    gradients = [
        jax.grad(lambda logits, loss=loss: sums(logits, batch, loss)[0])(batch["logits"])
        for loss in ("kl", "cross_entropy")
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_which_losses_are_least_at_the_human_shares() -> None:
    """Gradient descent on the logits ends at the target, but not with the published ablations' losses."""
    target = jnp.array([[[0.1, 0.6, 0.3]]])
    gaps = {loss: float(np.abs(minimise(loss, target) - target).max()) for loss in LOSSES}
    assert max(gaps[loss] for loss in (*SOUND, "paper_kl")) < 0.01
    assert min(gaps[loss] for loss in ("paper_jsd", "paper_wasserstein", "paper_cross_entropy")) > 0.1


def minimise(loss: str, target: jax.Array) -> np.ndarray:
    """The prediction after many steps downhill from uniform, ever smaller ones."""
    slope = jax.grad(lambda logits: LOSSES[loss](logits, target, target >= 0).sum())
    down = jax.jit(lambda i, logits: logits - 0.3 / (1 + i / 300) * slope(logits))
    return np.asarray(jax.nn.softmax(jax.lax.fori_loop(0, 5000, down, jnp.zeros_like(target))))


def test_training_minimises_the_loss_of_the_config(tmp_path: Path) -> None:
    """From the setting to a step's loss, over two microbatches."""
    model = tiny.write_model(tmp_path / "model")
    table = tiny.write_rows(tmp_path / "table.jsonl", tiny.rows(5))
    config = Config(
        model=ModelConfig(weights=str(model)),
        lora=LoraConfig(rank=2, projections=("q",)),
        data=DataConfig(tables=(str(table),), splits=SplitConfig(unseen_questions=("q1",), valid_questions=("q3",))),
        batch=BatchConfig(batch_size=1, seq_len=384, answers_per_seq=4, groups_per_tree=2, microbatches=2),
        optim=OptimConfig(loss="wasserstein"),
    )
    pretrained = open_pretrained(config.model.weights)
    task = build_task(config, make_prompter(config, pretrained.tokenizer()))
    built = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    batch = Batches(task.prompts["train"], built.shape, groups=2, microbatches=2).batch(0)
    same_letter = np.full_like(task.letters, task.letters[0])  # so that every prediction is uniform
    step = jax.jit(gradients, static_argnums=(0, 5))
    loss, _, _ = step(built.graphdef, built.params, built.frozen, batch, same_letter, built.step_config)
    slots = [tuple(slot) for slot in np.argwhere(batch["weight"] > 0)]
    human = [batch["target"][slot][batch["option_mask"][slot]].astype(np.float64) for slot in slots]
    assert len({len(p) for p in human}) > 1
    expected = np.mean([earth_mover(p / p.sum(), np.full(len(p), 1 / len(p))) for p in human])
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_learning_rate_ends_at_its_share_of_the_peak(schedule: str) -> None:
    rate = make_schedule(OptimConfig(steps=100, lr=2e-4, warmup=0, schedule=schedule, lr_end=0.25))
    assert float(rate(0)) == pytest.approx(2e-4)
    assert float(rate(100)) == pytest.approx(0.5e-4)
    assert 0.5e-4 < float(rate(50)) < 2e-4
