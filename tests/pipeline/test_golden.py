"""The digests by which results are known do not change."""

import json

import golden


def test_no_digest_has_changed():
    """Where it has on purpose: `python tests/golden.py`, and a commit that says why."""
    assert golden.digests() == json.loads(golden.FILE.read_text(encoding="utf-8"))
