"""Every setting of a training with every odd value; and config files that are not what they should be."""

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile import runs
from benchmarks.hostile.judge import Case
from survey_jax.config import settings

NUMBERS = ("-1", "0", "1", "1.5", "1000000000", "1e9", "99999999999999999999", "nan", "inf")
OTHERS = ("", "x", "None", "True", "()", "{}", "('a',)", "{'a': 1}", "../x", "/dev/null", "[" * 200)
STEPS = "optim.steps"


def cases(rng: random.Random) -> Iterator[Case]:
    """Trainings of one step of a tiny model."""
    for setting in settings():
        for value in NUMBERS + OTHERS:
            yield _case(setting.name.removeprefix("config."), value)
    for name, text in _files().items():
        yield Case(f"config file: {name}", "train", lambda folder, t=text: _config_file(folder, t), runs.trained)


def _case(name: str, value: str) -> Case:
    def flags(folder: Path) -> list[str]:
        once = [] if name == STEPS else [f"--config.{STEPS}=1"]
        return [f"--config={runs.base().config}", *once, f"--config.{name}={value}", "--workdir={output}"]

    return Case(f"setting {name}={value[:20]}", "train", flags, runs.trained)


def _files() -> dict[str, str]:
    return {
        "empty": "",
        "no function": "config = 1\n",
        "syntax": "def get_config(:\n",
        "returns nothing": "def get_config():\n    pass\n",
        "returns a number": "def get_config():\n    return 3\n",
        "raises": "def get_config():\n    raise ValueError('a\\nb\\x1b[31m')\n",
        "calls itself": "def get_config():\n    return get_config()\n",
        "ends the program": "import sys\n\ndef get_config():\n    sys.exit(0)\n",
        "misses a module": "import no_such_module\n\ndef get_config():\n    return 1\n",
        "not UTF-8": "def get_config():\n    return 'x'\n# \udce9",
        "NUL bytes": "def get_config():\0",
        "nested too deep": "x = " + "(" * 5000 + ")" * 5000 + "\n\ndef get_config():\n    return 1\n",
    }


def _config_file(folder: Path, text: str) -> list[str]:
    (folder / "odd_config.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    return [f"--config={folder / 'odd_config.py'}", "--workdir={output}"]
