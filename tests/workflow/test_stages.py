"""Changing one parameter changes exactly the stages that depend on it."""

from itertools import pairwise

import pytest

from ghn_pipeline.config import load
from ghn_pipeline.errors import UserError
from ghn_pipeline.files import digest
from ghn_pipeline.stages import checkpoint_file, result_folder, settings

ALL = [
    *("architectures", "ghn", "oneshot", "sgd", "scores/ghn", "scores/oneshot"),
    *("table4", "finalists"),
]
TRAININGS = ALL[1:]
SEARCHING = ["ghn", "oneshot", "scores/ghn", "scores/oneshot", "table4", "finalists"]
GHN = ["ghn", "scores/ghn", "table4", "finalists"]
ONESHOT = ["oneshot", "scores/oneshot", "table4"]
SGD = ["sgd", "table4"]
FINALISTS = ["finalists"]
JUDGED = ["sgd", "scores/ghn", "scores/oneshot", "table4", "finalists"]

#: parameters to change, another valid value, and what must be made anew: from the meaning of each
TABLE = [
    ("scale", "other", ["table4"]),  # it stands in the title
    ("cpu_is_enough", False, []),
    ("data.folder", "elsewhere", []),  # whatever the source, the bytes are the same
    ("data.sources", ["npm"], []),
    ("data.local", "/copy", []),
    ("images.train", 576, TRAININGS),
    ("images.validation", 300, TRAININGS),
    ("images.resolution", 16, TRAININGS),
    ("images.padding", 2, TRAININGS),
    ("space.nodes", 4, ALL),
    ("space.max_inputs", 1, ALL),
    ("space.operations", ["identity", "conv_1x1"], ALL),
    ("network.blocks", 3, TRAININGS),
    ("network.channels", 8, TRAININGS),
    ("network.reductions", [1], TRAININGS),
    ("network.stem_multiplier", 2, TRAININGS),
    ("ghn.nodes", 4, GHN),
    ("ghn.passes", 2, GHN),
    ("ghn.scheme", "synchronous", GHN),
    ("ghn.share_parameters", False, GHN),
    ("ghn.pass_embeddings", False, GHN),
    ("ghn.embedding", 16, GHN),
    ("ghn.message_hidden", 16, GHN),
    ("ghn.hypernetwork_hidden", 16, GHN),
    ("ghn.epochs", 4, GHN),
    ("ghn.batch", 32, GHN),
    ("ghn.learning_rate", 0.01, GHN),
    ("ghn.halve_at", [2], GHN),
    ("ghn.clip", 1.0, GHN),
    ("ghns.default", {"passes": 2}, GHN),
    ("oneshot.epochs", 3, ONESHOT),
    ("oneshot.batch", 32, ONESHOT),
    ("oneshot.learning_rate", 0.01, ONESHOT),
    ("oneshot.halve_at", [], ONESHOT),
    ("oneshot.clip", 1.0, ONESHOT),
    ("sgd.epochs", 4, SGD),
    ("sgd.batch", 32, SGD),
    ("sgd.learning_rate", 0.1, SGD),
    ("sgd.momentum", 0.5, SGD),
    ("sgd.weight_decay", 0.0, SGD),
    # the batches on which SGD stopped early, and the others, are judged
    ("evaluation.batch", 50, JUDGED),
    ("evaluation.batches", 1, JUDGED),
    # SGD generates no weights
    ("evaluation.together", 3, JUDGED[1:]),
    ("correlation.architectures", [0, 1, 2, 3, 4, 5], ALL),
    ("correlation.steps", [5], SGD),
    ("correlation.resamples", 300, ["table4"]),
    ("correlation.confidence", 0.9, ["table4"]),
    ("tables.costs", True, ["table4"]),
    ("finalists.ranks", [1], []),  # which of them are trained, not how
    ("finalists.workers", 4, FINALISTS),
    ("finalists.nodes", 1, []),
    ("finalists.epochs", 3, FINALISTS),
    ("finalists.batch", 32, FINALISTS),
    ("finalists.learning_rate", 0.1, FINALISTS),
    ("finalists.warmup_epochs", 0, FINALISTS),
    ("finalists.momentum", 0.5, FINALISTS),
    ("finalists.weight_decay", 0.0, FINALISTS),
    ("seeds.split", 9, TRAININGS),
    ("seeds.test_architectures", 9, ALL),
    ("seeds.training_architectures", 9, SEARCHING),
    ("seeds.data_order", 9, TRAININGS),
    ("seeds.initialisation", 9, TRAININGS),
    ("seeds.bootstrap", 9, ["table4"]),
    ("compute.device", "cpu", []),
    ("compute.threads", 2, []),
    ("compute.workers", 3, []),
    ("compute.checkpoint_seconds", 5, []),
    ("compute.log_seconds", 5, []),
    ("compute.minutes", 20, []),
    ("compute.stop_seconds", 30, []),
    ("compute.memory_mb", 9000, []),
    ("compute.cores", 3, []),
]

STAGES = {
    "architectures": "architectures",
    "ghn": "ghn/default",
    "oneshot": "oneshot",
    "sgd": "sgd/3",
    "scores/ghn": "scores/ghn/default",
    "scores/oneshot": "scores/oneshot",
    "table4": "table4",
    "finalists": "finalists/0",
}


def digests(config):
    return {name: digest(settings(config, stage)) for name, stage in STAGES.items()}


@pytest.mark.parametrize(("path", "value", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_parameter_changes_what_depends_on_it(path, value, expected, configured):
    before, after = digests(configured()), digests(configured({path: value}))
    assert [stage for stage in ALL if before[stage] != after[stage]] == expected


def test_the_table_names_every_parameter(smoke_settings):
    def leaves(settings, prefix=""):
        for key, value in settings.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    # `method` has one value only, that of the code; `correlation.ghns` has a test of its own
    named = ["method", "correlation.ghns", *(path for path, _, _ in TABLE)]
    assert sorted(named) == sorted(leaves(smoke_settings))


def test_another_ghn_beside_the_first_changes_nothing(configured):
    before, after = digests(configured()), digests(configured({"ghns.more": {"passes": 2}}))
    assert before == after


def test_another_first_ghn_changes_what_is_made_of_the_first(configured):
    two = {"ghns.more": {"passes": 2}, "correlation.ghns": ["default", "more"]}
    before, more = digests(configured()), digests(configured(two))
    assert before == more
    after = digests(configured({**two, "correlation.ghns": ["more", "default"]}))
    assert [stage for stage in ALL if before[stage] != after[stage]] == ["table4", "finalists"]


def test_each_ghn_has_settings_of_its_own(configured):
    config = configured({"ghns.same": {}, "ghns.more": {"passes": 2}})
    default, same, more = (
        digest(settings(config, f"ghn/{name}")) for name in ("default", "same", "more")
    )
    assert default == same != more


def test_an_unknown_stage_is_refused(configured):
    with pytest.raises(UserError, match="no stage 'table5'"):
        settings(configured(), "table5")
    with pytest.raises(UserError, match="no GHN named 'other'"):
        settings(configured(), "ghn/other")


def test_checkpoints_of_different_settings_have_different_names(configured):
    names = [
        checkpoint_file(configured({"ghn.passes": passes}), "ghn/default") for passes in (1, 2, 3)
    ]
    assert all(a != b for a, b in pairwise(names))
    # a workflow engine deletes what a failed job leaves in the results
    results = result_folder(configured(), "ghn/default")
    assert all("results" not in name.parts for name in names)
    assert results.parts[0] == "results"


def test_the_three_scales_share_no_results(pytestconfig):
    root = pytestconfig.rootpath
    presets = ([], ["presets/quick.yaml"], ["presets/smoke.yaml"])
    configs = [load([root / "params.yaml", *(root / p for p in files)]) for files in presets]
    assert len({result_folder(config, "oneshot") for config in configs}) == 3
