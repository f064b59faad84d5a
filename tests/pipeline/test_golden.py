"""The digests by which results are known, and the tables of the smoke preset, do not change."""

import json

import golden
import pytest


def test_no_digest_has_changed():
    """Where it has on purpose: `python tests/golden.py`, and a commit that says why."""
    assert golden.digests() == json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.mark.timeout(900)
def test_no_table_or_figure_of_the_smoke_preset_has_changed(finished):
    """Where one has on purpose: `python tests/golden.py results/smoke`, likewise."""
    results = finished.folder / "results/smoke"
    known = json.loads(golden.TABLES.read_text(encoding="utf-8"))
    machine = golden.machine(results)
    if machine not in known:
        pytest.skip(f"no tables are kept of {machine}: python tests/golden.py results/smoke")
    assert golden.tables(results) == known[machine]
