"""Programs run in a process of their own, on the backend in use."""

import os
import subprocess
import sys
from pathlib import Path

import keras


def output_of(program: str, *arguments: str, folder: Path) -> str:
    """Returns what a Python program prints; fails with its error text unless it exits with 0."""
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=os.environ | {"KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
