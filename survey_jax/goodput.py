"""Which share of a run's time trained it, over all its starts; kept in WORKDIR/time.json.

Each start has an entry there: `started` (UTC), `step` (where it went on), `seconds` by activity of `clock.ACTIVITIES`,
up to its last line in metrics.jsonl, or to its end where it came to one, and `lost`: how many steps that an earlier
start had computed it had to compute again, and how many seconds of `compute` those had taken.
"""

import time
from typing import Any

from etils import epath

from survey_jax.clock import COMPUTE
from survey_jax.console import duration
from survey_jax.run_files import read_json, write_json


class Goodput:
    """The account of a run.

    Args:
      step: where this start goes on.
      lost: lines of metrics.jsonl after that step, whose steps will be computed again.
    """

    def __init__(self, workdir: epath.Path, step: int, lost: list[dict[str, Any]]):
        self._file = workdir / "time.json"
        self._starts = read_json(self._file)["starts"] if self._file.exists() else []
        steps = max((line["step"] for line in lost), default=step) - step
        seconds = sum(line.get(f"time/{COMPUTE}", 0.0) for line in lost)
        self._start = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "step": step,
            "seconds": {},
            "lost": {"steps": steps, "seconds": seconds},
        }
        self._starts.append(self._start)

    def write(self, seconds: dict[str, float]) -> None:
        """Notes what this start took so far."""
        self._start["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
        write_json(self._file, {"starts": self._starts, "goodput": round(self.share(), 4)})

    def share(self) -> float:
        """Seconds of training steps that counted, over all seconds of all starts."""
        return self._by_activity()[COMPUTE] / self._total()

    def summary(self) -> str:
        """One line: how long the run took, and what on."""
        total, parts = self._total(), self._by_activity()
        shares = sorted(parts.items(), key=lambda part: -part[1])
        starts = f"{len(self._starts)} start{'s' * (len(self._starts) > 1)}"
        spent = ", ".join(f"{name} {value / total:.1%}" for name, value in shares if value >= 0.0005 * total)
        return f"time {duration(total)} in {starts}: {spent} (goodput {self.share():.1%})"

    def _total(self) -> float:
        return sum(sum(start["seconds"].values()) for start in self._starts)

    def _by_activity(self) -> dict[str, float]:
        parts: dict[str, float] = {}
        for start in self._starts:
            for name, value in start["seconds"].items():
                parts[name] = parts.get(name, 0.0) + value
        lost = sum(start["lost"]["seconds"] for start in self._starts)
        return parts | {COMPUTE: parts[COMPUTE] - lost, "lost": lost}
