"""What the table is made of must belong together."""

from typing import Any

import pytest

from ghn_pipeline import artifacts
from ghn_pipeline.errors import UserError


def records(hashes: list[str], scored: list[str]) -> Any:
    """Stand in for `record.read`: five trained networks, and scores of the given hashes."""

    def read(_config: object, stage: str, _made_by: str) -> dict[str, Any]:
        if stage.startswith("sgd/"):
            i = int(stage.removeprefix("sgd/"))
            early = {"accuracy": 0.1 * i, "seconds": 1.0}
            measured = {"10": early, "30": {"final": 0.2 * i}}
            return {"result": {"hash": hashes[i], "measured": measured}}
        result = {"hashes": scored, "accuracies": [0.0] * 5, "seconds_each": 1.0}
        return {"result": result, "accelerator_seconds": 2.0}

    return read


def test_scores_of_other_architectures_are_refused(monkeypatch, configured):
    hashes = ["a", "b", "c", "d", "e"]
    monkeypatch.setattr(artifacts.record, "read", records(hashes, hashes))
    rows, made_of = artifacts.table4_rows(configured())
    assert list(rows["ghn"].truth) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert len(made_of) == 5 + 4
    monkeypatch.setattr(artifacts.record, "read", records(hashes, hashes[::-1]))
    with pytest.raises(UserError, match="different architectures"):
        artifacts.table4_rows(configured())
