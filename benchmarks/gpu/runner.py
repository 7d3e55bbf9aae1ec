"""Runs a measurement in a process of its own, and keeps what is found in gpu.json."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.look import ROOT
from benchmarks.gpu.measurements import Measurement
from survey_jax.common.errors import UserError

REASONS = ("failed", "unavailable", "left_out")  # why a measurement has no figures
LOG = 3000  # characters kept of what a failed process has printed
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt)\b.*$", re.MULTILINE)


def run(m: Measurement, left: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """What a measurement's process found, with "took" (seconds); or why it did not, as one of REASONS.

    Args:
      left: seconds of the budget. When they end, so does the process, with all that it has started.
    """
    begin = time.monotonic()
    command, pipe = [sys.executable, "-m", m.module, json.dumps(m.spec)], subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        printed, errors = process.communicate(timeout=min(m.limit, left))
    except subprocess.TimeoutExpired:
        if left <= m.limit:
            return {"left_out": f"not done in the {left:.0f} s that were left"}
        return {"failed": f"took longer than {m.limit:.0f} s"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    took = {"took": round(time.monotonic() - begin, 1)}
    if process.returncode:
        return {"failed": why(errors, process.returncode), "log": errors[-LOG:]} | took
    try:
        return dict(json.loads(printed.splitlines()[-1])) | took
    except (IndexError, ValueError, TypeError):
        return {"failed": "it ended without a result", "log": (printed + errors)[-LOG:]} | took


def why(errors: str, code: int) -> str:
    """The last exception that a process has printed, else its last line, else its exit code."""
    lines = _ERROR.findall(errors) or errors.strip().splitlines() or [f"ended with code {code}"]
    return lines[-1][:300]


def said(result: Mapping[str, Any]) -> str:
    """A result in a line."""
    for reason in REASONS:
        if reason in result:
            return f"{reason.replace('_', ' ')}: {result[reason]}"
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in result.items() if not isinstance(v, dict | list)}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)


def is_done(result: Mapping[str, Any] | None, m: Measurement) -> bool:
    """Whether a result is of this very measurement: failed ones and those of other sizes are not."""
    if result is None or {"failed", "left_out"} & set(result):
        return False
    return bool(result["spec"] == json.loads(json.dumps(m.spec)))


def read_results(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """What earlier calls found. UserError where a file is not of their making, or of another machine or kind of call.

    Args:
      about: this machine, and whether this is a rehearsal.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        before, results = found["about"], found["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not what benchmarks.gpu writes ({error}); move it away") from error
    for name in ("device", "rehearsal"):
        if before[name] != about[name]:
            raise UserError(f"{file}: {name} is {before[name]!r} there, {about[name]!r} now; give another --results")
    return dict(results)
