"""Time and memory of survey_jax.prepare on a made-up file in the shape of the World Values Survey.

    python -m benchmarks.prepare [--respondents=1000000] [--questions=250]

Makes a Parquet file and its codebook (not timed), runs the real command on it in a process of its own, and writes
benchmarks/results/prepare.json. Groups are countries, and countries by age.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pycountry
from absl import app, flags

RESPONDENTS = flags.DEFINE_integer("respondents", 1_000_000, "Rows of the file.")
QUESTIONS = flags.DEFINE_integer("questions", 250, "Columns with answers.")
RESULT = Path("benchmarks/results/prepare.json")
COUNTRIES = [country.alpha_3 for country in pycountry.countries][:60]
CHUNK = 100_000
OPTIONS = (2, 3, 4, 4, 4, 5, 10)  # how many, question by question


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as folder:
        data, codebook, table = (Path(folder) / name for name in ("wvs.parquet", "wvs.yaml", "table.parquet"))
        write_data(data)
        write_codebook(codebook)
        print(f"made {data.stat().st_size / 1e6:.0f} MB of Parquet", flush=True)
        flags_ = [f"--input={data}", f"--codebook={codebook}", f"--output={table}", "--source=microdata"]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "survey_jax.prepare", *flags_], check=True)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # kilobytes on Linux
    result = {
        "respondents": RESPONDENTS.value,
        "questions": QUESTIONS.value,
        "cpus": len(os.sched_getaffinity(0)),
        "seconds": round(seconds, 1),
        "peak_gigabytes": round(peak, 2),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


def options(question: int) -> int:
    return OPTIONS[question % len(OPTIONS)]


def write_data(path: Path) -> None:
    """In row groups, so that making the file needs little memory."""
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, RESPONDENTS.value, CHUNK):
        size = min(CHUNK, RESPONDENTS.value - start)
        columns = {
            "B_COUNTRY_ALPHA": rng.choice(COUNTRIES, size),
            "W_WEIGHT": rng.lognormal(0, 0.5, size),
            "Q260": rng.choice([1, 2], size),
            "Q262": rng.integers(16, 95, size),
        }
        for question in range(QUESTIONS.value):
            answers = rng.integers(1, options(question) + 1, size)
            missing = rng.random(size) < 0.05
            columns[f"A{question}"] = np.where(missing, rng.choice([-1, -2, -4, -5], size), answers)
        batch = pa.table(columns)
        writer = writer or pyarrow.parquet.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
    if writer:
        writer.close()


def write_codebook(path: Path) -> None:
    lines = [
        "survey: Made-up values survey",
        "weight: W_WEIGHT",
        "missing: [-1, -2, -5]",
        "not_asked: [-4]",
        "attributes:",
        "  country: B_COUNTRY_ALPHA",
        "  age: {column: Q262, recode: [16-29, 30-44, 45-59, 60+]}",
        "breakdowns: [country, country+age]",
        "questions:",
    ]
    for question in range(QUESTIONS.value):
        texts = ", ".join(f"{k}: option {k}" for k in range(1, options(question) + 1))
        lines += [f"  A{question}:", f"    text: What of thing {question}?", f"    options: {{{texts}}}"]
        lines += ["    scale: ordinal"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
