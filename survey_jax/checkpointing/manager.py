"""The checkpoints of a run: the latest few and the best, saved in the background and verified when read.

docs/checkpoints.md says what they hold and what they guarantee.
"""

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from survey_jax.checkpointing import files
from survey_jax.checkpointing.lock import trains_here
from survey_jax.checkpointing.presence import Observer, Presence
from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError
from survey_jax.common.files import is_remote, read_json, write_json
from survey_jax.parallel.distributed import all_gather_text

# Names of validation scores that are saved with a checkpoint.
METRIC = "kl_by_kind"  # lowest is best; each kind of row counts the same, and within it each question
TRAINING_SET = "training set"  # in the identity: fingerprint of the training rows
TOKENIZER = "tokenizer or chat template"  # in the identity: fingerprint of what they make of some prompts
TEMPERATURE = "temperature_"  # begins the scores that divide the logits of a kind of row, see calibration.py

_NAME = re.compile(r"(0|[1-9]\d*)(-interim)?")  # name of a checkpoint's folder
_ASIDE = "damaged_"  # prefix of a damaged checkpoint that was set aside
_READER = "reading_"  # prefix of a file that tells of a process which reads the checkpoint of a step
_SAVED = "saved.json"  # beside the checkpoints: the step of the newest one
# Of a record: fact -> its type.
_FACTS: dict[str, type | tuple[type, ...]] = {"step": int, "identity": dict, "metrics": (dict, type(None)), "log": list}


class Restored(NamedTuple):
    """A checkpoint to resume from, as it was given to `Checkpoints.save`."""

    step: int
    parameters: Any
    optimizer: Any
    log: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints under WORKDIR/checkpoints, each in a folder named by its step.

    A checkpoint holds two pytrees of arrays, the trained `parameters` and the `optimizer` state, with their identity
    (fingerprints of base model and data) and their scores. A checkpoint without scores, STEP-interim, serves only to
    resume, and is deleted when there is a later one. All processes must call the same methods.

    Args:
      workdir: of the run: a folder, or gs://BUCKET/RUN.
      keep: how many of the latest to keep besides the best by METRIC. None: for reading only, possibly while a training
        is writing.
    """

    def __init__(self, workdir: epath.PathLike, keep: int | None = None):
        path = epath.Path(workdir)  # Orbax needs absolute ones
        self.folder = (path if is_remote(path) else path.expanduser().resolve()) / "checkpoints"
        self._keep = keep
        self._saving: tuple[str, Any] | None = None  # its name and Orbax's handle
        self._quiet = contextlib.ExitStack()  # entered while a save is running
        self._readers = Observer()

    def save(
        self,
        step: int,
        parameters: Any,
        optimizer: Any,
        identity: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        log: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Starts writing; returns once the arrays are copied. UserError if this save or the previous one failed.

        Args:
          metrics: scores on the validation split; None: an interim checkpoint.
          log: the steps that the run's log has collected and not yet written; valid JSON.
        """
        self.wait()
        name = f"{step}" if metrics is not None else f"{step}-interim"
        scores = None if metrics is None else {key: float(value) for key, value in metrics.items()}
        facts = {"step": step, "identity": dict(identity), "metrics": scores, "log": list(log)}
        self._quiet.enter_context(files.quiet())
        with self._explained(name):
            handle = files.write(self.folder / name, {"parameters": parameters, "optimizer": optimizer}, facts)
        self._saving = name, handle

    def check(self) -> None:
        """Raises UserError if the running save has failed; does not wait."""
        with contextlib.suppress(TimeoutError):
            self.wait(seconds=0)

    def wait(self, seconds: float | None = None) -> None:
        """Waits for the running save. Raises UserError if it has failed, TimeoutError if it takes longer."""
        if self._saving:
            name, handle = self._saving
            with self._explained(name):
                handle.result(timeout=seconds)
            self._saving = None
            self._quiet.close()
            write_json(self.folder.parent / _SAVED, {"step": _step(name)})
            self._delete_old()

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turns a save that the disk or the store refuses into a UserError, and removes what it has written."""
        try:
            yield
        except (OSError, ValueError) as error:
            text = files.one_line(files.root_cause(error))
            tensorstores = re.match("ValueError: [A-Z_]+: ", text)
            if isinstance(error, TimeoutError) or not (isinstance(error, OSError) or tensorstores):
                raise
            self._saving = None
            self._quiet.close()
            with contextlib.suppress(OSError):  # another thread may still be writing; the next start removes the rest
                self._clean()
            reason = "no space is left" if re.search("No space left|Disk quota", text) else text
            good = self._names()
            intact = f"the checkpoint of step {_step(good[-1])} is intact" if good else "there is none before it"
            raise UserError(
                f"{self.folder / name}: cannot be saved: {reason}; {intact}. Mend that, as by making room or a lower "
                "config.run.keep, and run the same command again"
            ) from error

    def _delete_old(self) -> None:
        """Deletes all but the latest with scores, the best, the newest, and those that another process reads."""
        if is_first():
            names = self._names()
            scored = [name for name in names if name.isdecimal()]
            best = min(scored, key=self._score, default=None)
            for name in set(names) - {*scored[-(self._keep or 1) :], best, names[-1], *self._names_read()}:
                try:
                    if is_remote(self.folder):
                        (self.folder / name / files.COMMIT).unlink()
                        (self.folder / name).rmtree()
                    else:  # renamed first: if killed here, nothing is left that looks like a checkpoint
                        (self.folder / name).rename(self.folder / f"{name}{files.TEMPORARY}-old").rmtree()
                except OSError as error:  # e.g. someone reads it over NFS; the next save tries again
                    say(f"warning: {self.folder / name}: cannot be removed now: {files.one_line(error)}")

    def _names_read(self) -> set[str]:
        """The checkpoints that processes read now; the files of readers that are gone are removed."""
        names = set()
        for file in self.folder.glob(f"{_READER}*"):
            if self._readers.is_alive(file) is False:
                file.unlink(missing_ok=True)
            else:
                names.add(file.name.removeprefix(_READER).split("_")[0])
        return names

    @contextlib.contextmanager
    def reading(self, which: str) -> Iterator[int]:
        """The step that `which` names, see `step`; a training beside does not delete its checkpoint during the body."""
        while True:
            step = self.step(which)
            with self._told(step):
                if self.scored(step):  # otherwise it was deleted meanwhile
                    yield step
                    return

    @contextlib.contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """Tells a training that a checkpoint is read, by a file beside it."""
        file = None
        if is_first():
            try:
                file = Presence(self.folder / f"{_READER}{step}_{secrets.token_hex(4)}")
                file.keep()
            except OSError as error:  # somebody else's run, or a read-only disk
                if training := trains_here(self.folder.parent):
                    say(
                        f"warning: {self.folder}: cannot be written ({error.strerror or error}), so that the training "
                        f"there ({training}) is not told to keep the checkpoint of step {step}"
                    )
        try:
            yield
        finally:
            if file is not None:
                file.close()

    def _clean(self) -> None:
        """Removes what a killed or failed save has left behind."""
        if is_first() and self.folder.exists():
            for path in self.folder.iterdir():
                cut_off = is_remote(path) and _NAME.fullmatch(path.name) and not (path / files.COMMIT).exists()
                if files.TEMPORARY in path.name or cut_off:
                    say(f"{path}: removed an incomplete checkpoint left by an interrupted save")
                    path.rmtree()

    def restore_latest(self, parameters: Any, optimizer: Any, identity: Mapping[str, str]) -> Restored | None:
        """The newest intact checkpoint, None if nothing was ever saved; damaged ones are reported and set aside.

        Args:
          parameters, optimizer: arrays, or `jax.ShapeDtypeStruct`s with a sharding, on any mesh. If there is a
            checkpoint, the arrays are deleted: the state need not fit into memory twice.

        Raises:
          UserError: the checkpoint belongs to another run, or there were checkpoints and all are damaged or gone.
        """
        self._clean()
        names = self._names_of_first()
        like = {"parameters": parameters, "optimizer": optimizer}
        abstract = jax.tree.map(_abstract, like)
        if names:
            jax.tree.map(lambda x: x.delete() if isinstance(x, jax.Array) else None, like)
        for name in reversed(names):
            try:
                record = files.together(self._record, name)
                check_identity(record["identity"], identity, self.folder.parent)
                found = files.read_arrays(self.folder / name, abstract)
            except files.Damaged as damage:
                aside = f"{_ASIDE}{name}_{time.strftime('%Y%m%dT%H%M%S')}"
                if is_first():
                    (self.folder / name).rename(self.folder / aside)
                say(f"warning: {damage}\nwarning: it is set aside as {all_gather_text(aside)[0]}")
                continue
            return Restored(_step(name), found["parameters"], found["optimizer"], record["log"])
        if damaged := ", ".join(sorted(path.name for path in self.folder.glob(f"{_ASIDE}*"))):
            raise UserError(
                f"{self.folder}: none of its checkpoints is whole ({damaged}); to start over, choose another "
                "--workdir or delete this one"
            )
        if (saved := self.folder.parent / _SAVED).exists():
            raise UserError(
                f"{self.folder}: its checkpoints are gone, and this run had saved step {read_json(saved).get('step')}; "
                "put them back, or, to start over, choose another --workdir or delete this one"
            )
        return None

    def best(self) -> tuple[float, int]:
        """METRIC and step of the best checkpoint; infinity and 0 where none has scores."""
        scores = [(self._score(name), int(name)) for name in self._names() if name.isdecimal()]
        score, step = json.loads(all_gather_text(json.dumps(min(scores, default=(np.inf, 0))))[0])
        return score, step

    def scored(self, step: int) -> bool:
        """Whether there is a checkpoint of this step with scores."""
        return str(step) in self._names_of_first()

    def step(self, which: str) -> int:
        """ "best", "last" or a number -> step. Raises UserError where there is no such checkpoint, or it is damaged."""
        steps = [int(name) for name in self._names_of_first() if name.isdecimal()]
        if not steps:
            raise UserError(
                f"{self.folder}: holds no checkpoint; train first, or evaluate the base model with --zero_shot"
            )
        if which == "best":
            scores = {step: _score(self._read(step)) for step in steps}
            return min(steps, key=lambda step: scores[step])
        if which == "last":
            return steps[-1]
        if which.isdecimal() and int(which) in steps:
            return int(which)
        raise UserError(f"--step={which}: {self.folder} has best, last and {', '.join(map(str, steps))}")

    def identity(self, step: int) -> dict[str, str]:
        """Name -> fingerprint of what a checkpoint belongs to. Raises UserError if it is damaged."""
        return self._read(step)["identity"]

    def digest(self, step: int) -> str:
        """Hash of everything in a checkpoint. Raises UserError if it is damaged."""
        return files.digest(self._read(step))

    def temperatures(self, step: int) -> dict[str, float]:
        """Kind of row -> the temperature fitted at a step. UserError if it is no positive number, or damaged."""
        scores = self._read(step)["metrics"].items()
        fitted = {name.removeprefix(TEMPERATURE): value for name, value in scores if name.startswith(TEMPERATURE)}
        for kind, value in fitted.items():
            if not (isinstance(value, int | float) and 0 < value < np.inf):
                raise UserError(
                    f"{self.folder / f'{step}'}: its temperature for a {kind.replace('_', ' ')} is {value}, which must "
                    "be a positive number: no prediction can be made with it; take another --step, or train again"
                )
        return {kind.replace("_", " "): value for kind, value in fitted.items()}

    def restore_parameters(self, step: int, like: Any, partial: bool = False) -> Any:
        """The trained parameters of a step. UserError if the checkpoint is damaged or holds other parameters.

        Args:
          like: arrays, or `jax.ShapeDtypeStruct`s, with the sharding that is wanted.
          partial: `like` has only some of the parameters; the others are not read.
        """
        abstract = {"parameters": jax.tree.map(_abstract, like)}
        with self._refusing(step):
            return files.read_arrays(self.folder / f"{step}", abstract, partial)["parameters"]

    def _names_of_first(self) -> list[str]:
        """The checkpoints that process 0 sees: a shared folder may show new ones to others later."""
        return json.loads(all_gather_text(json.dumps(self._names()))[0])

    def _names(self) -> list[str]:
        """The complete checkpoints, newest last; at the same step, the one with scores comes last."""
        if not self.folder.exists():
            return []
        found = [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        if is_remote(self.folder):  # a local folder gets its name when it is complete
            found = [name for name in found if (self.folder / name / files.COMMIT).exists()]
        return sorted(found, key=lambda name: (_step(name), name.isdecimal()))

    def _record(self, name: str) -> dict[str, Any]:
        record = files.read_record(self.folder / name, _FACTS)
        if record["step"] != _step(name):
            raise files.Damaged(f"{self.folder / name}: damaged: holds the checkpoint of step {record['step']}")
        return record

    def _read(self, step: int) -> dict[str, Any]:
        with self._refusing(step):
            return self._record(f"{step}")

    @contextlib.contextmanager
    def _refusing(self, step: int) -> Iterator[None]:
        """Turns Damaged and Gone into a UserError that says who has deleted it, or names the other checkpoints."""
        try:
            yield
        except (files.Damaged, files.Gone) as problem:
            others = [f"--step={name}" for name in self._names() if name.isdecimal() and name != f"{step}"]
            text, folder = str(problem), self.folder / f"{step}"
            if is_first() and not folder.exists():
                training = trains_here(self.folder.parent)
                text = f"{folder}: deleted " + (f"by the training that runs here ({training})" if training else "since")
            raise UserError(f"{text}; others that are there: {', '.join(others) or 'none'}") from problem

    def _score(self, name: str) -> float:
        """METRIC of a checkpoint; infinity if it is damaged, so that it is not the best."""
        with contextlib.suppress(files.Damaged):
            return _score(self._record(name))
        return np.inf


def check_identity(found: Mapping[str, str], expected: Mapping[str, str], workdir: os.PathLike[str]) -> None:
    """Raises UserError, which names what differs, unless a checkpoint belongs to this model and data."""
    for name, value in expected.items():
        if found.get(name) != value:
            raise UserError(
                f"{workdir}: its checkpoint was made with another {name} (fingerprint {found.get(name)}, now {value}); "
                f"use the {name} of that run, or another --workdir"
            )


def _score(record: Mapping[str, Any]) -> float:
    """METRIC of a checkpoint; infinity if it is no number."""
    score = record["metrics"].get(METRIC)
    return score if isinstance(score, int | float) and np.isfinite(score) else np.inf


def _step(name: str) -> int:
    return int(name.split("-")[0])


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
