"""Do rules on question texts gain from a sentence encoder? TF-IDF against embeddings, and what an encoder finds alike.

    python -m benchmarks.encoder --tables=questions_500.parquet,... --encoder=FOLDER [--output=embeddings.parquet]

The tables are those that benchmarks/learning_curve.py writes, with their splits in the column `part`. The encoder is a
folder or hub id of a BERT-like model with mean pooling, such as all-MiniLM-L6-v2, which transformers and torch run.
Writes the embeddings of all questions, as `eval --embeddings` reads them, and prints misplaced answers of 100 and KL of
each rule on each split, and the near-duplicates of two surveys that only the embeddings show.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags
from jaxtyping import Float
from rich.progress import track

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.survey.baselines import registry
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.splits.config import TRAIN, SplitConfig
from survey_jax.survey.splits.near_duplicates import NearDuplicates
from survey_jax.survey.splits.split import split
from survey_jax.survey.table import Answer, read_table

TABLES = flags.DEFINE_list("tables", None, "Survey tables with a column `part`.", required=True)
ENCODER = flags.DEFINE_string("encoder", None, "Folder or hub id of the encoder.", required=True)
OUTPUT = flags.DEFINE_string("output", "embeddings.parquet", "Where embeddings go.")
RULES = {
    "text_neighbours": "embedding_neighbours",
    "text_ridge": "embedding_ridge",
    "text_and_group": "embedding_and_group",
}
BATCH = 32


def main() -> None:
    tables = {table: split(read_table(table), SplitConfig(column="part")).rows for table in TABLES.value}
    questions = sorted({a.question for parts in tables.values() for rows in parts.values() for a in rows})
    vectors = encode(questions, ENCODER.value)
    pq.write_table(pa.table({"question": questions, "embedding": vectors.tolist()}), OUTPUT.value)
    embeddings = Embeddings(Path(OUTPUT.value), questions)
    for table, parts in tables.items():
        say(f"\n{table}: {len({a.question_key for a in parts[TRAIN]})} training questions")
        by_text, by_meaning = NearDuplicates(parts), NearDuplicates(parts, embeddings=embeddings)
        for name, rows in parts.items():
            if name != TRAIN:
                more = by_meaning.leaked_rows(name) & ~by_text.leaked_rows(name)
                asked = {a.question_key for a, only in zip(rows, more, strict=True) if only}
                say(f"{name}: {len(asked)} near-duplicate questions that only the embeddings show")
        baselines = registry.with_embeddings(embeddings)
        for pair in RULES.items():
            for rule in pair:
                say(f"{rule:<22}{'  '.join(_scores(baselines[rule], parts))}")
    say(f"results: {OUTPUT.value}")


def encode(texts: Sequence[str], encoder: str) -> Float[np.ndarray, "n d"]:
    """The mean over tokens of a text's last hidden states."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # so that a batch has little padding
    found: dict[int, np.ndarray] = {}
    for begin in track(range(0, len(order), BATCH), "embedding", transient=True):
        rows = order[begin : begin + BATCH]
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        found |= dict(zip(rows, ((hidden * mask).sum(1) / mask.sum(1)).numpy(), strict=True))
    return np.array([found[i] for i in range(len(texts))])


def _scores(rule: registry.Baseline, parts: dict[str, list[Answer]]) -> list[str]:
    asked = [a for name, rows in parts.items() if name != TRAIN for a in rows]
    shares = iter(rule(parts[TRAIN], asked)[0])
    lines = []
    for name, rows in parts.items():
        if name != TRAIN:
            scores = metrics.row_metrics(rows, metrics.stack(rows, [next(shares) for _ in rows]))
            lines.append(f"{name} {100 * np.mean(scores['tv']):.1f} / {np.mean(scores['kl']):.3f}")
    return lines


if __name__ == "__main__":
    cli.run(main)
