"""Sizes that no memory can hold are refused before it is asked for."""

import dataclasses

import pytest

from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, LoraConfig
from survey_jax.pretrained.families import decoder_config
from survey_jax.training import memory
from survey_jax.training.memory import check_memory, memory_here
from tiny import FAMILIES, SIZES

DECODER, _ = decoder_config(SIZES | FAMILIES["llama"], "tiny")  # a layer has 2 x 32 + 64 numbers a token


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"batch_size": 101, "seq_len": 1000}, "config.batch.batch_size = 101 sequences of seq_len = 1000: one layer"),
        ({"microbatches": 1000, "seq_len": 10_000}, "config.batch.microbatches = 1000 of batch_size = 1, seq_len = 10"),
        ({"microbatches": 1000, "answers_per_seq": 1000}, "answers_per_seq = 1000: the answers of a step would take 0"),
    ],
)
def test_a_batch_that_does_not_fit(monkeypatch, batch: dict[str, int], said: str) -> None:
    monkeypatch.setattr(memory, "memory_here", lambda: 4 * 100 * 1000 * 128)
    small = BatchConfig(batch_size=1, seq_len=100, answers_per_seq=10)
    check_memory(Config(batch=small), DECODER, trained=1000, options=10)
    with pytest.raises(UserError) as raised:
        check_memory(Config(batch=dataclasses.replace(small, **batch)), DECODER, trained=1000, options=10)
    assert said in str(raised.value)


def test_adapters_that_do_not_fit() -> None:
    here = memory_here()
    assert 1e8 < here < 1e14
    config = Config(lora=LoraConfig(rank=16384))
    check_memory(config, DECODER, trained=int(here / 4) - 1, options=10)
    with pytest.raises(UserError, match=r"^config.lora.rank = 16384: the trained parameters would take [\d,]+ GB, mo"):
        check_memory(config, DECODER, trained=int(here / 4) + 2, options=10)


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_here() == 1e6
