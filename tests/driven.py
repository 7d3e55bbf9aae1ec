"""Runs a Python program on virtual devices."""

import os
import subprocess
import sys

from places import ROOT


def driven(arguments: list[str], devices: int) -> str:
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=os.environ | flags, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
