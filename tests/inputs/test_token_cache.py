"""Tokens kept on disk: the same prompts as without; whatever could change a prompt misses; damage is noticed."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import tiny
from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig, ModelConfig, RunConfig
from survey_jax.inputs.chat import Chat
from survey_jax.inputs.prompts import Prompter
from survey_jax.inputs.task import build_task, make_prompter, open_tokenizer
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.splits.split import SplitConfig
from survey_jax.survey.table import Answer, parse_rows

ROWS = parse_rows(tiny.rows(questions=4), "tiny")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


class Opened:
    """A model's tokenizer with a cache; counts how often it had to be built."""

    def __init__(self, model: Path, folder: Path):
        pretrained, self.built = open_pretrained(str(model)), 0

        def build():
            self.built += 1
            return pretrained.tokenizer()

        self.tokenizer = LazyTokenizer(build, pretrained.config.vocab_size)
        self.cache = TokenCache(epath.Path(folder), pretrained.tokenizer_fingerprint())

    def tokenise(self, rows: list[Answer] = ROWS, template: str = "question_first", options: int = 0, **settings):
        return Prompter(self.tokenizer, template, cache=self.cache, **settings).tokenise(rows, options)


def same(a, b) -> bool:
    (prompts, letters), (others, their_letters) = a, b
    return (
        len(prompts) == len(others)
        and np.array_equal(letters, their_letters)
        and all(
            p.answer is q.answer and p.order == q.order and p.tokens.dtype == q.tokens.dtype == np.int32
            for p, q in zip(prompts, others, strict=True)
        )
        and all(np.array_equal(p.tokens, q.tokens) for p, q in zip(prompts, others, strict=True))
    )


def test_a_second_start_gets_the_same_prompts_without_a_tokenizer(model, tmp_path):
    plain = Prompter(open_pretrained(str(model)).tokenizer(), "question_first", order="shuffled").tokenise(ROWS)
    first, second = Opened(model, tmp_path), Opened(model, tmp_path)
    assert same(first.tokenise(order="shuffled"), plain)
    assert same(second.tokenise(order="shuffled"), plain)
    assert (first.built, second.built) == (1, 0)


def change(row: Answer, **values) -> list[Answer]:
    return [dataclasses.replace(row, **values), *ROWS[1:]]


CHANGES = {
    "template": {"template": "paper"},
    "language": {"language": "zh"},
    "order": {"order": "reversed"},
    "more letters": {"options": 9},
    "a question": {"rows": change(ROWS[0], question="Is it bad?")},
    "an option": {"rows": change(ROWS[0], options=("yes", "no"))},
    "a group": {"rows": change(ROWS[0], group=(("country", "Chad"),))},
    "fewer rows": {"rows": ROWS[1:]},
    "their order": {"rows": ROWS[::-1]},
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_prompt_is_not_taken_from_the_cache(what, model, tmp_path):
    Opened(model, tmp_path).tokenise()
    second = Opened(model, tmp_path)
    settings = CHANGES[what]
    found = second.tokenise(**settings)
    assert second.built == 1
    assert same(found, Opened(model, tmp_path / "empty").tokenise(**settings))


def test_another_seed_of_shuffled_options_is_not_taken_from_the_cache(model, tmp_path):
    Opened(model, tmp_path).tokenise(order="shuffled", seed=1)
    second = Opened(model, tmp_path)
    second.tokenise(order="shuffled", seed=2)
    assert second.built == 1


def test_another_tokenizer_is_not_taken_for_the_first(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    Opened(model, tmp_path / "cache").tokenise()
    assert Opened(other, tmp_path / "cache").cache._fingerprint == Opened(model, tmp_path).cache._fingerprint
    file = other / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(content))
    changed = Opened(other, tmp_path / "cache")
    assert not same(changed.tokenise(), Opened(model, tmp_path / "cache").tokenise())
    assert changed.built == 1


def test_the_chat_format_is_part_of_it(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    found = []
    for template in ("{{ messages[0].content }} >", "{{ messages[0].content }} >>"):
        (other / "chat_template.jinja").write_text(template)
        found.append(Opened(other, tmp_path / "cache").tokenise(chat=Chat()))
    assert len(found[1][0][0].tokens) == len(found[0][0][0].tokens) + 1
    assert not same(found[0], Opened(other, tmp_path / "cache").tokenise())


def test_gguf_files_are_told_apart_by_their_vocabulary(gemma3_gguf, smollm2_gguf):
    one, two = (open_pretrained(str(file)).tokenizer_fingerprint() for file in (gemma3_gguf, smollm2_gguf))
    assert one != two


def damage_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_bit(content: bytes) -> bytes:
    return content[:400] + bytes([content[400] ^ 1]) + content[401:]


def damage_length(content: bytes) -> bytes:
    with np.load(io.BytesIO(content)) as kept:
        arrays = dict(kept)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {"lengths": arrays["lengths"][:-1]})
    return buffer.getvalue()


@pytest.mark.parametrize("damage", [damage_half, damage_bit, damage_length, lambda _: b"", lambda _: b"no archive"])
def test_a_damaged_file_is_said_and_made_anew(damage, model, tmp_path, capsys):
    plain = Opened(model, tmp_path).tokenise()
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert same(Opened(model, tmp_path).tokenise(), plain)
    assert f"{file}: damaged" in capsys.readouterr().out
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]
    assert same((again := Opened(model, tmp_path)).tokenise(), plain)
    assert again.built == 0


def test_a_cache_that_cannot_be_written_is_said_and_does_without(model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert same(Opened(model, tmp_path / "file" / "tokens").tokenise(), Opened(model, tmp_path / "fine").tokenise())
    assert "cannot be written" in capsys.readouterr().out


def test_a_breach_of_the_letter_contract_is_kept_nowhere(model, tmp_path):
    file = (other := shutil.copytree(model, tmp_path / "other")) / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["(A"] = len(vocabulary)
    content["model"]["merges"] = [["(", "A"]]
    content["pre_tokenizer"]["use_regex"] = False  # so that brackets and letters can merge
    file.write_text(json.dumps(content))
    for _ in range(2):
        with pytest.raises(UserError, match="letter-token contract"):
            Opened(other, tmp_path / "cache").tokenise()
    assert not (tmp_path / "cache").exists()


def test_splits_get_their_own_rows_from_one_file(model, tmp_path):
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows())
    config = Config(
        model=ModelConfig(weights=str(model)),
        data=DataConfig(
            tables=(str(table),), splits=SplitConfig(unseen_groups={"country": ("Peru",)}, valid_questions=("q3",))
        ),
        batch=BatchConfig(seq_len=384),
        run=RunConfig(cache=str(tmp_path / "cache")),
    )
    pretrained = open_pretrained(str(model))
    plain = build_task(config, make_prompter(config, pretrained.tokenizer()))
    for _ in range(2):
        task = build_task(config, make_prompter(config, *open_tokenizer(config, pretrained)))
        assert list(task.prompts) == list(plain.prompts)
        assert len(task.prompts) >= 3
        for name, prompts in task.prompts.items():
            assert [p.answer for p in prompts] == task.splits.rows[name]
            assert all(np.array_equal(p.tokens, q.tokens) for p, q in zip(prompts, plain.prompts[name], strict=True))
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
    config.run.cache = ""
    assert same(
        make_prompter(config, *open_tokenizer(config, pretrained)).tokenise(ROWS),
        make_prompter(config, pretrained.tokenizer()).tokenise(ROWS),
    )
