"""Which errors may mean that another process is gone: those that jax's runtime raises, under both of their types."""

import jax
import pytest

from survey_jax.parallel.distributed import _is_status

BROKEN = "UNKNOWN: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (jax.errors.JaxRuntimeError(BROKEN), True),
        (ValueError(BROKEN), True),  # what a compiled function raises when it is called
        (ValueError("DEADLINE_EXCEEDED: Barrier timed out"), True),
        (ValueError("rows.jsonl: no such file"), False),
        (KeyError("UNKNOWN: x"), False),
    ],
)
def test_an_error_of_the_runtime(error: Exception, found: bool) -> None:
    assert _is_status(error) is found
