"""All systems on all splits of a run, under equal rights: the same rows, the same calibration, the same choice."""

import functools
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from survey_jax.survey.baselines.seen_groups import Baseline, Filled
from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.calibration import Temperature, calibrate, fit_calibration
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore, System, Validation, score_split
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MEMBERS, Stack, Stacked, fit_stack
from survey_jax.survey.splits.config import FEW_SHOT, TRAIN, VALID
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN_GROUP, kinds
from survey_jax.survey.table import Answer
from survey_jax.survey.text import same_group

MODEL, ZERO_SHOT, UNCALIBRATED = "model", "zero_shot", "uncalibrated"
Predictions = Mapping[str, Float[np.ndarray, "_ _"]]  # split -> a distribution a row


def _kinds(train: Sequence[Answer], split: str, rows: Sequence[Answer]) -> list[str]:
    """The kinds of a split's rows; the groups of few-shot splits have few answers in train, unlike those of valid."""
    found = kinds(train, rows)
    return [FEW_ANSWERS if k == KNOWN_GROUP else k for k in found] if split.startswith(FEW_SHOT) else found


def _by_split(rule: Baseline, train: Sequence[Answer], asked: Mapping[str, Sequence[Answer]]) -> dict[str, Filled]:
    """What a rule predicts for the rows of each split, and how; it learns from train once for all of them."""
    shares, sources = rule(train, [a for rows in asked.values() for a in rows])
    ends = itertools.accumulate((len(rows) for rows in asked.values()), initial=0)
    return {name: (shares[a:b], sources[a:b]) for name, (a, b) in zip(asked, itertools.pairwise(ends), strict=True)}


class Systems:
    """What the model, the base model, its controls and every rule predict for every split.

    Args:
      rows: split -> its rows; TRAIN among them, and VALID if there are validation rows, which the calibration is
        fitted on and the rule to beat is chosen on.
      predicted: system -> its predictions before calibration: MODEL or ZERO_SHOT or both, and any controls, which may
        lack VALID. The model is the subject where there is one.
      rules: name -> function, as `registry.BASELINES`.
      calibrated: whether to calibrate; False: every system is scored as it is.
    """

    def __init__(
        self,
        rows: Mapping[str, Sequence[Answer]],
        predicted: Mapping[str, Predictions],
        rules: Mapping[str, Baseline],
        calibrated: bool = True,
    ):
        self._rows, self._predicted = rows, predicted
        self._kinds = {name: _kinds(rows[TRAIN], name, part) for name, part in rows.items() if name != TRAIN}
        asked = {name: rows[name] for name in self._kinds}
        filled = {rule: _by_split(predict, rows[TRAIN], asked) for rule, predict in rules.items()}
        self._rules = {
            rule: {name: metrics.stack(rows[name], shares) for name, (shares, _) in parts.items()}
            for rule, parts in filled.items()
        }
        self._sources = {
            rule: {name: sources for name, (_, sources) in parts.items()} for rule, parts in filled.items()
        }
        self.subject = MODEL if MODEL in predicted else ZERO_SHOT
        self.calibration: dict[str, dict[str, Temperature]] = {}
        self._validation: Validation | None = None
        if VALID in rows:
            own = {system: predicted[system] for system in (MODEL, ZERO_SHOT) if system in predicted}
            if calibrated:
                self.calibration = {s: self._fit(parts[VALID]) for s, parts in (*own.items(), *self._rules.items())}
            scores = {rule: self._valid_scores(rule) for rule in rules}
            self._validation = Validation(rows[VALID], self._kinds[VALID], scores)
        self.stack = self._fit_stack() if VALID in rows and calibrated and set(MEMBERS) <= set(rules) else None

    def score(
        self,
        split: str,
        name: str,
        chosen: Bool[np.ndarray, " n"],
        order: Callable[[Answer], Sequence[int]],
        seed: int,
    ) -> SplitScore:
        """Scores the chosen rows of a split under a name.

        Args:
          order: which option of a row was shown at each place.
          seed: of the bootstrap and the sampling ceiling.

        Raises:
          UserError: as `scoring.score_split`.
        """
        answers = list(itertools.compress(self._rows[split], chosen))
        row_kinds = list(itertools.compress(self._kinds[split], chosen))
        systems = {system: made.select(chosen) for system, made in self._systems(split).items()}
        orders = [order(a) for a in answers]
        pooled = (self.stack, self._stacked(split).select(chosen)) if self.stack else None
        return score_split(name, answers, row_kinds, systems, orders, self._validation, seed, pooled)

    def text(self) -> str:
        """Plain text: the temperatures and the weights of the stack, and from how much each was fitted."""
        if not self.calibration:
            return "no calibration: every system is scored as it is"
        lines = []
        for kind, rows in Counter(self._kinds[VALID]).items():
            fitted = {system: found[kind] for system, found in self.calibration.items() if kind in found}
            used = ", ".join(f"{s} {t.value:.2f}" for s, t in fitted.items() if abs(t.value - 1) > 0.005)
            questions = max((t.questions for t in fitted.values()), default=0)
            lines.append(
                f"calibration of rows with a {kind}, from {questions} questions and {rows} rows of {VALID}: "
                f"{used or 'none'}{'; all others 1' if used else ''}"
            )
        if self.stack:
            lines += [f"predicted together, rows with a {line}" for line in self.stack.text().splitlines()]
        return "\n".join(lines)

    def _fit_stack(self) -> Stack:
        """The stack for every kind of row that the splits have."""
        valid, subject = self._rows[VALID], self._predicted[self.subject][VALID]
        known = np.flatnonzero(~np.isnan(subject).any(-1)).tolist()
        rules = {rule: self._rules[rule][VALID][known] for rule in MEMBERS}
        rows, kinds_of_rows = [valid[i] for i in known], [self._kinds[VALID][i] for i in known]
        asked = [kind for kinds_of_split in self._kinds.values() for kind in kinds_of_split]
        return fit_stack(self._rows[TRAIN], rows, kinds_of_rows, rules, subject[known], asked, self._known_answers())

    def _known_answers(self) -> int:
        """The median number of answers that train has of a group with few of them; 0 where there is none."""
        few = {
            same_group(a.group)
            for name, part in self._rows.items()
            if name != TRAIN
            for a, kind in zip(part, self._kinds[name], strict=True)
            if kind == FEW_ANSWERS
        }
        answers = Counter(group for a in self._rows[TRAIN] if (group := same_group(a.group)) in few)
        return int(statistics.median(answers.values())) if answers else 0

    @functools.cache  # noqa: B019  # there is one object, for as long as the program runs
    def _stacked(self, split: str) -> Stacked:
        assert self.stack is not None
        rows = self._rows[split]
        subject = paired.without_failures(rows, self._predicted[self.subject][split])[0]
        rules = {rule: self._rules[rule][split] for rule in MEMBERS}
        unlike = self._similarity.features(rows)
        return self.stack.predict(rows, self._kinds[split], rules, subject, unlike)

    @functools.cached_property
    def _similarity(self) -> Similarity:
        return Similarity(self._rows[TRAIN])

    def _fit(self, predictions: np.ndarray) -> dict[str, Temperature]:
        return fit_calibration(self._rows[VALID], predictions, self._kinds[VALID])

    def _valid_scores(self, rule: str) -> metrics.RowMetrics:
        scaled = calibrate(self._rules[rule][VALID], self._kinds[VALID], self.calibration.get(rule, {}))
        found = metrics.row_metrics(self._rows[VALID], scaled)
        return {metric: found[metric] for metric in HEADLINE}

    def _systems(self, split: str) -> dict[str, System]:
        """The systems of a split; controls are calibrated as the subject is, which they are asked of."""
        found: dict[str, System] = {}
        own = self.calibration.get(self.subject, {})
        for name, parts in self._predicted.items():
            if name == self.subject:
                found[name] = System("subject", parts[split], own)
                if name == MODEL:
                    found[UNCALIBRATED] = System("variant", parts[split])
            elif name == ZERO_SHOT:
                found[name] = System("variant", parts[split], self.calibration.get(name, {}))
            else:
                found[name] = System("control", parts[split], own)
        for rule, shares in self._rules.items():
            calibration = self.calibration.get(rule, {})
            found[rule] = System("rule", shares[split], calibration, self._sources[rule][split])
        return found
