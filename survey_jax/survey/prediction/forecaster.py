"""Puts questions to groups: finds out what train knows of each, asks every member of the stack, and pools them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError

from survey_jax.common.console import say
from survey_jax.common.errors import other_version
from survey_jax.common.files import read_json, write_json
from survey_jax.survey.baselines.seen_groups import folded_options
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MEMBERS, MODEL, RULES, KindStack, Stack, fit_stack
from survey_jax.survey.splits.kinds import kinds
from survey_jax.survey.table import Answer
from survey_jax.survey.text import Questions

Ask = Callable[[Sequence[Answer]], Float[np.ndarray, "n K"]]
_STACKS = TypeAdapter(dict[str, KindStack])


class Forecaster:
    """Predicts any question for any group, from training rows and a language model.

    The stack is fitted when a kind of row is first asked for, which takes a minute, and saved.

    Args:
      train, valid: rows of the run; valid may be empty.
      ask: the language model: rows -> its predictions, without calibration.
      saved: a JSON file for what was fitted; None: nowhere.
      key: what the fit depends on besides this program, such as fingerprints of rows and weights; a file with another
        key is replaced.
    """

    def __init__(
        self,
        train: Sequence[Answer],
        valid: Sequence[Answer],
        ask: Ask,
        saved: epath.Path | None = None,
        key: Mapping[str, str] | None = None,
    ):
        self._train, self._valid, self._ask, self._saved, self._key = train, valid, ask, saved, dict(key or {})
        self.stacks: dict[str, KindStack] = read_stacks(saved, self._key) if saved is not None else {}
        self._questions = Questions(train)

    def predict(self, answers: Sequence[Answer]) -> list[Forecast]:
        """What is predicted for questions put to groups; the rows' own shares are not used.

        A question that train asks in the same words, with the same options in the same order, is taken as that one.

        Raises:
          UserError: a member of the stack predicts no distribution.
        """
        if not answers:
            return []
        asked = [self._as_known(answer) for answer in answers]
        row_kinds = kinds(self._train, asked)
        self._fit(row_kinds)
        model = self._model(asked, row_kinds)
        used = {rule for kind in row_kinds for rule, weight in self.stacks[kind].rules.weights.items() if weight}
        rules = {rule: metrics.stack(asked, MEMBERS[rule](self._train, asked)[0]) for rule in MEMBERS if rule in used}
        unlike = self._similarity.features(asked)
        stacked = Stack(self.stacks).predict(asked, row_kinds, rules, model, unlike)
        said = {MODEL: metrics.stack(asked, model), RULES: stacked.rules, **rules}
        forecasts = []
        for i, (answer, kind) in enumerate(zip(answers, row_kinds, strict=True)):
            options = len(answer.options)
            forecasts.append(
                Forecast(
                    answer=answer,
                    shares=stacked.shares[i, :options],
                    concentration=float(stacked.concentration[i]),
                    kind=kind,
                    members={m: (w, said[m][i, :options]) for m, w in self.weights(kind).items()},
                    similar=self._similarity.questions(answer),
                    cautions=self._similarity.cautions(answer, float(unlike[i, 0])),
                )
            )
        return forecasts

    def _model(self, asked: Sequence[Answer], row_kinds: Sequence[str]) -> list[Float[np.ndarray, " k"]]:
        """What the language model says; it is not asked where it has no weight, and even shares stand there."""
        found = [np.full(len(answer.options), 1 / len(answer.options)) for answer in asked]
        rows = [i for i, kind in enumerate(row_kinds) if self.stacks[kind].model_adds]
        if rows:
            for i, shares in zip(rows, self._ask([asked[i] for i in rows]), strict=True):
                found[i] = shares[: len(asked[i].options)]
        return found

    def text(self) -> str:
        """Plain text: what each kind of row is predicted with."""
        return Stack(self.stacks).text()

    @functools.cached_property
    def _similarity(self) -> Similarity:
        return Similarity(self._train)

    def _as_known(self, answer: Answer) -> Answer:
        same = self._questions.find(answer)
        if same is None or folded_options(same) != folded_options(answer):
            return answer
        return dataclasses.replace(answer, survey=same.survey, question_id=same.question_id, options=same.options)

    def weights(self, kind: str) -> dict[str, float]:
        """The weight in the stack of each member that has one, rules by themselves and all together."""
        stack = self.stacks[kind]
        by_rule = {rule: weight * stack.members.weights[RULES] for rule, weight in stack.rules.weights.items()}
        return {m: w for m, w in (stack.members.weights | by_rule).items() if w}

    def _fit(self, asked: Sequence[str]) -> None:
        """Fits the stack for the kinds that it lacks."""
        missing = [kind for kind in dict.fromkeys(asked) if kind not in self.stacks]
        if not missing:
            return
        say(f"fitting weights and errors for rows with a {', a '.join(missing)}")
        valid_kinds = kinds(self._train, self._valid)
        model: Any = self._ask(self._valid) if self._valid else []
        rules = {rule: predict(self._train, self._valid)[0] for rule, predict in MEMBERS.items()}
        self.stacks |= fit_stack(self._train, self._valid, valid_kinds, rules, model, missing).kinds
        if self._saved is not None:
            write_stacks(self._saved, self._key, self.stacks)


def write_stacks(path: epath.Path, key: Mapping[str, str], stacks: Mapping[str, KindStack]) -> None:
    """Saves fitted stacks; `key` says what they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": dict(key), "kinds": _STACKS.dump_python(dict(stacks), mode="json")})


def read_stacks(path: epath.Path, key: Mapping[str, str]) -> dict[str, KindStack]:
    """The stacks saved under this key; none where there is no such file, or it has another key.

    Raises:
      UserError: another version has written the file.
    """
    found = read_json(path) if path.exists() else {}
    if found.get("key") != dict(key):
        return {}
    try:
        return _STACKS.validate_python(found.get("kinds"))
    except ValidationError as error:
        raise other_version(path, f"kinds: {error.errors()[0]['msg']}") from None
