"""What devices send, counted in XLA's text: against a program whose traffic is known, and all ways to write groups."""

import os
import subprocess
import sys

import numpy as np
import pytest

from survey_jax.planning.hlo_traffic import replica_groups, traffic

EIGHT = [
    ("replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("replica_groups=[2,4]<=[8], dimensions={0}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("replica_groups=[4,2]<=[4,2]T(1,0), dimensions={0}", [[0, 2], [4, 6], [1, 3], [5, 7]]),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}, dimensions={0}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("replica_groups=mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
]


@pytest.mark.parametrize(("text", "groups"), EIGHT)
def test_every_way_to_write_groups(text: str, groups: list[list[int]]) -> None:
    np.testing.assert_array_equal(replica_groups(f", channel_id=1, {text}, metadata={{}}"), groups)


def test_groups_in_an_unknown_form_are_no_guess() -> None:
    with pytest.raises(ValueError, match="form that is not known"):
        replica_groups(", channel_id=1, replica_groups=@table3")


PROGRAM = """
import jax, jax.numpy as jnp
jax.config.update("jax_platforms", "cpu"); jax.config.update("jax_num_cpu_devices", 8)
from jax.sharding import PartitionSpec as P
mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
def body(x, w):  # five layers: each gathers its weight over fsdp
    return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), P(("data", "fsdp"))), None
def f(x, ws):
    return jax.lax.scan(body, x, ws)[0].sum()
with jax.set_mesh(mesh):
    where = lambda *spec: jax.sharding.NamedSharding(mesh, P(*spec))
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=where(("data", "fsdp")))
    ws = jax.ShapeDtypeStruct((5, 128, 128), jnp.float32, sharding=where(None, "fsdp"))
    out = (where(None, "fsdp") if GRADIENT else None)
    g = jax.jit(jax.grad(f, argnums=1) if GRADIENT else f, out_shardings=out)
    print(g.lower(x, ws).compile().as_text())
"""


def compiled(gradient: bool) -> str:
    program = PROGRAM.replace("GRADIENT", str(gradient))
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_gather_in_a_loop_counts_as_often_as_the_loop_runs() -> None:
    text, weight = compiled(gradient=False), 128 * 128 * 4
    sent = traffic(text, domain=8)
    assert sent.total["all-gather"] == 5 * weight * 3 / 4  # of four devices that share a weight
    assert sent.leaving["all-gather"] == 0
    halves = traffic(text, domain=2)  # the four sit on two hosts: each needs the other's half, two devices fetch it
    assert halves.leaving["all-gather"] == 5 * weight / 2 / 2


def test_a_sum_that_is_cut_up_is_a_reduce_scatter() -> None:
    sent = traffic(compiled(gradient=True), domain=8)
    weight = 128 * 128 * 4
    assert sent.total["all-gather"] == pytest.approx(2 * 5 * weight * 3 / 4, rel=0.01)  # forward and backward
    # A gradient is summed over the four that share its weight, each keeping a quarter, and then with the other four.
    assert sent.total["reduce-scatter"] == 5 * weight * 3 / 4
    assert sent.total["all-reduce"] == pytest.approx(5 * weight / 4, rel=0.01)
