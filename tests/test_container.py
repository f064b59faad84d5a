"""The container recipe, built where there is an engine."""

import shutil
import subprocess

import pytest
from workplace import ROOT

pytestmark = pytest.mark.slow


def test_the_image_runs_the_command():
    engine = next((name for name in ("docker", "podman") if shutil.which(name)), None)
    if engine is None or subprocess.run([engine, "info"], capture_output=True).returncode:
        pytest.skip("no container engine runs here")
    name = "ghn-pipeline-test"
    subprocess.run([engine, "build", "-t", name, "-f", "Containerfile", "."], cwd=ROOT, check=True)
    words = [engine, "run", "--rm", name, "ghn", "check", "--config", "params.yaml"]
    done = subprocess.run(
        [*words, "presets/smoke.yaml"], capture_output=True, encoding="utf-8", check=True
    )
    assert "smoke: the configuration is whole" in done.stdout
