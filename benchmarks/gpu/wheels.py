"""Collects in one folder the wheels that a machine without a network lacks, for benchmarks.gpu.

    python3 -m pip freeze > installed.txt                                            # there
    python3.12 benchmarks/gpu/wheels.py installed.txt wheels                         # here, with that machine's Python
    python3 -m pip install --no-index --no-deps --target=site wheels/*.whl           # there
    PYTHONPATH=site:. python3 -m benchmarks.gpu

What is installed there stays as it is: pip looks for versions of everything else that go with it. Where there are none
it says which package stands in the way; take its line out of installed.txt, and a newer one comes along. Needs nothing
but Python and pip; a line of installed.txt may be a name without a version.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SETUP = Path(__file__).parents[2] / "setup.py"


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    there, folder = versions(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        limits, report = Path(temporary) / "constraints.txt", Path(temporary) / "report.json"
        limits.write_text("".join(f"{name}=={version}\n" for name, version in there.items() if version))
        flags = ["--ignore-installed", "--only-binary=:all:", f"--constraint={limits}", f"--report={report}"]
        pip("install", "--dry-run", "--quiet", *flags, *needs(SETUP.read_text(encoding="utf-8")))
        chosen = missing(json.loads(report.read_text(encoding="utf-8")), there)
    if not chosen:
        print("nothing is missing")
        return
    pip("download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}", *chosen)
    size = sum(file.stat().st_size for file in folder.glob("*.whl"))
    print(f"{folder}: {len(chosen)} wheels, {size / 2**20:.1f} MiB: {', '.join(chosen)}")


def pip(*arguments: str) -> None:
    """Runs this Python's pip; where it fails, so does this, with its exit code."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def needs(setup: str) -> list[str]:
    """The requirements of the package, from the text of its setup.py."""
    keywords = (node for node in ast.walk(ast.parse(setup)) if isinstance(node, ast.keyword))
    found: list[str] = ast.literal_eval(next(k.value for k in keywords if k.arg == "install_requires"))
    return found


def versions(lines: Iterable[str]) -> dict[str, str]:
    """Name -> version of the lines of `pip freeze`; "" where a line has none, or it is no published one."""
    found = {}
    for line in lines:
        if match := re.match(r"\s*([\w.-]+)\s*(?:==\s*([^\s;+]+)(\+\S+)?)?", line):
            found[canonical(match[1])] = "" if match[3] else match[2] or ""
    return found


def missing(report: dict[str, Any], there: dict[str, str]) -> list[str]:
    """What pip would install and what is not there, as "name==version"."""
    items = [item["metadata"] for item in report["install"]]
    return sorted(f"{i['name']}=={i['version']}" for i in items if canonical(i["name"]) not in there)


def canonical(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
