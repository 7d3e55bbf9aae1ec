"""One device = eight devices = two processes, on meshes of one and of all axes; and the eight really share the work."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import tiny
from places import ROOT
from processes import printed, start
from survey_jax.common.errors import UserError
from survey_jax.parallel.sharding import Sizes, arrange, make_mesh

MESHES = {"fsdp": (1, 8, 1, 1), "data": (8, 1, 1, 1), "all": (2, 2, 2, 1)}
PROCESSES = {"two processes": (2, 2, 2, 1)}  # of four devices each
DRIVER = ROOT / "tests" / "sharded_steps.py"

Results = dict[str, dict[str, np.ndarray]]


def drive(config: Path, output: Path, devices: int, *meshes: Sizes, processes: int = 1) -> str:
    """Runs the driver on virtual CPU devices, so many a process; returns what the first process wrote to stderr."""
    arguments = [f"--config={config}", str(output), *(str(size) for mesh in meshes for size in mesh)]
    log = output / "log"
    started = start(DRIVER, arguments, log, processes, devices)
    assert [process.wait() for process in started] == [0] * processes, printed(log)
    return printed(log)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Results, str]:
    """Results by mesh, "one" device included, and the eight devices' stderr; of Gemma 3, which has all parts."""
    directory = tmp_path_factory.mktemp("sharding")
    model = tiny.write_model(directory / "model", "gemma3")
    table = tiny.write_rows(directory / "rows.jsonl", tiny.rows())
    config = tiny.write_config(directory, model, table, batch__batch_size="8", batch__microbatches="2")
    drive(config, directory, 1, (1, 1, 1, 1))
    stderr = drive(config, directory, 8, *MESHES.values())
    drive(config, directory, 4, *PROCESSES.values(), processes=2)
    files = {"one": "1_1_1_1"} | {name: "_".join(map(str, mesh)) for name, mesh in MESHES.items()}
    files |= {name: "_".join(map(str, mesh)) + "_processes" for name, mesh in PROCESSES.items()}
    return {name: dict(np.load(directory / f"{file}.npz")) for name, file in files.items()}, stderr


def test_eight_devices_equal_one(runs: tuple[Results, str]) -> None:
    """Loss and gradient of a step, losses of five, the parameters after them, and their scores on `valid`."""
    results, _ = runs
    one = results["one"]
    names = [n for n in one if n in ("loss", "losses", "scores") or n.startswith(("gradient", "parameter"))]
    assert len(names) == 3 + 2 * 14  # A and B of seven projections
    for mesh in (*MESHES, *PROCESSES):
        off = {n: np.linalg.norm(results[mesh][n] - one[n]) / np.linalg.norm(one[n]) for n in names}
        print(f"{mesh}: {max(off, key=off.__getitem__)} differs by {max(off.values()):.1e}")
        assert all(value < 1e-5 for value in off.values()), off


def test_devices_share_the_work(runs: tuple[Results, str]) -> None:
    results, stderr = runs
    for mesh in MESHES:
        memory = results[mesh]["temporary"] / results["one"]["temporary"]
        print(f"{mesh}: a device holds {results[mesh]['held']:.2f} of the arrays, {memory:.3f} of the activations")
        assert memory < 1.5 / 8  # what flows between layers is whole along the tensor axis
        assert results[mesh]["compilations"] == 1
    # Norms and what a mesh axis does not divide stay whole.
    assert results["data"]["held"] == 1.0
    assert max(results[mesh]["held"] for mesh in ("fsdp", "all")) < 0.4
    assert "Involuntary full rematerialization" not in stderr


@pytest.mark.parametrize(
    ("family", "processes", "parts"),
    [
        ("olmo2", 1, ("q_bias", "q_norm")),
        ("mixtral", 1, ("router", "expert_gate")),
        ("mistral4", 2, ("k_down", "latent_kv", "q_down_norm")),
        ("llama4", 2, ("blocks_1", "router", "expert_gate")),
        ("gpt_oss", 2, ("sinks", "router_bias", "expert_up_bias", "expert_down_bias")),
        ("qwen3_5", 2, ("delta_qkv", "delta_convolution", "delta_log_rate", "delta_shift")),
        ("gemma4", 2, ("blocks_2", "token_embedding", "expert_gate")),
    ],
)
def test_other_families_on_a_mesh(family: str, processes: int, parts: tuple[str, ...], tmp_path: Path) -> None:
    """Full fine-tuning. OLMo 2 with biases: normalising a whole projection sums over the mesh's tensor axis. Experts:
    each device has its part of them, of the width of each, and of the tokens. Gemma 4: three stacks."""
    model = tiny.write_model(tmp_path / "model", family)
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows())
    config = tiny.write_config(tmp_path, model, table, batch__batch_size="8", lora__rank="0", optim__lr="1e-4")
    drive(config, tmp_path, 1, (1, 1, 1, 1))
    mesh = (1, 2, 2, 2) if "expert" in str(parts) else MESHES["all"]
    drive(config, tmp_path, 8 // processes, mesh, processes=processes)
    names = ("1_1_1_1", "_".join(map(str, mesh)) + "_processes" * (processes > 1))
    one, eight = (dict(np.load(tmp_path / f"{name}.npz")) for name in names)
    names = [n for n in one if n in ("loss", "losses") or n.startswith(("gradient", "parameter"))]
    assert all(any(part in name for name in names) for part in parts)
    off = {n: np.linalg.norm(eight[n] - one[n]) / np.linalg.norm(one[n]) for n in names}
    print(f"{max(off, key=off.__getitem__)} differs by {max(off.values()):.1e}")
    assert all(value < 1e-5 for value in off.values()), off
    assert eight["held"] < 0.4
    assert one["compilations"] == eight["compilations"] == 1


@pytest.mark.parametrize(
    "sizes", [(2, 1, 1, 1), (1, -1, 2, 1), (0, 1, 1, 1), (-1, -1, 1, 1), (1, 1, -2, 1), (1, 1, 1, 2)]
)
def test_a_mesh_that_does_not_cover_the_devices(sizes: Sizes) -> None:
    """One device here."""
    with pytest.raises(UserError, match=r"mesh: data=.* does not cover the 1 devices here"):
        make_mesh(*sizes)


def test_the_rest_of_a_mesh() -> None:
    assert dict(make_mesh(1, -1, 1).shape) == {"data": 1, "fsdp": 1, "tensor": 1, "expert": 1}


@dataclasses.dataclass(frozen=True)
class Device:
    """As jax describes one of several slices."""

    id: int
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    process_index: int = 0


@pytest.mark.parametrize(
    ("sizes", "across"),
    [
        ((2, 4, 1, 1), (2, 1, 1, 1)),
        ((1, 8, 1, 1), (1, 2, 1, 1)),
        ((4, 1, 2, 1), (2, 1, 1, 1)),
        ((1, 1, 8, 1), (1, 1, 2, 1)),
        ((1, 2, 1, 4), (1, 2, 1, 1)),
    ],
)
def test_outer_axes_cross_between_slices(sizes: Sizes, across: Sizes) -> None:
    """Two slices of four: an axis that crosses changes slice as seldom as can be, the others never."""
    devices = [Device(i, i // 4, device_kind="cpu", platform="cpu") for i in range(8)]
    slices = np.vectorize(lambda d: d.slice_index)(arrange(sizes, devices).devices)
    changes = [int((np.diff(slices, axis=axis) != 0).any(axis=axis).any()) for axis in range(4)]
    assert changes == [size - 1 for size in across]
    assert slices.shape == sizes


def test_slices_that_a_mesh_cannot_be_split_over() -> None:
    devices = [Device(i, i // 2, device_kind="cpu", platform="cpu") for i in range(6)]
    with pytest.raises(UserError, match="3 slices"):
        arrange((1, 2, 1, 1), devices[:6])
