"""Shared fixtures: the small real models, and transformers' own reading of them. Each is loaded once a session.

In the process of the tests, arguments and results of the functions of CHECKED are checked against their annotations,
shapes of arrays included; commands that tests start in processes of their own run unchecked.
"""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

import tiny  # noqa: F401  # before pytest-xdist's workers start: they share its cache

CHECKED = ("survey", "sources", "model", "pretrained", "planning", "inputs", "training")
install_import_hook([f"survey_jax.{room}" for room in CHECKED], "typechecked.typechecked")

# The same examples every time: a test that fails now and then tells nobody whether a change broke it.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

WEIGHTS = Path(__file__).parents[1] / "checkpoints" / "weights"


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2 135M Instruct, Q4_1 (llama family)."""
    return _weights("smollm2")


@pytest.fixture(scope="session")
def gemma3_gguf() -> Path:
    """Gemma 3 270M, Q4_K_M (gemma3_text family)."""
    return _weights("gemma3-270m")


@pytest.fixture(scope="session")
def smollm2_torch(smollm2_gguf, cached_gguf_reader):
    """transformers' LlamaForCausalLM on the same weights, float32."""
    return _torch_model(smollm2_gguf)


@pytest.fixture(scope="session")
def gemma3_torch(gemma3_gguf, cached_gguf_reader):
    """transformers' Gemma3ForCausalLM on the same weights, float32."""
    return _torch_model(gemma3_gguf)


@pytest.fixture(scope="session")
def cached_gguf_reader() -> Iterator[None]:
    """transformers parses the same header several times, ten seconds a time for Gemma: once is enough."""
    import gguf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", functools.cache(gguf.GGUFReader))
        yield


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """On few and busy cores torch's threads spend their time waiting for one another: ten times as long."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium is installed here")
    return found


def _weights(name: str) -> Path:
    path = WEIGHTS / f"{name}.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is absent: python -m survey_jax.fetch {name}")
    return path


def _torch_model(path: Path):
    """As AutoModelForCausalLM.from_pretrained(gguf_file=...) does it, less its need of the accelerate package."""
    torch = pytest.importorskip("torch")
    import transformers
    from transformers.initialization import no_init_weights
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    return model.eval()
