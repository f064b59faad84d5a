"""Changing one parameter changes exactly the stages that depend on it."""

from itertools import pairwise
from pathlib import Path

import pytest

from ghn_pipeline.pipeline.stage import checkpoint_file, result_folder, settings
from ghn_pipeline.settings.config import load
from ghn_pipeline.spaces.darts import OPERATIONS
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest

ALL = [
    *("architectures", "ghn", "oneshot", "sgd", "repeat", "scores/ghn", "scores/oneshot"),
    *(
        "scores/proxies",
        "scores/sgd",
        "benchmark",
        "table4",
        "ablations",
        "search",
        "search_curves",
        "short",
        "winner",
        "top",
        "best",
        "searched_top",
    ),
    *("table1", "table2", "export", "mobile", "table3"),
    *("anytime/top", "anytime/random", "anytime/best", "anytime/msdnet", "anytime_curves"),
    "memory",
    "claims",
]


#: The tables and figures with findings about the paper's claims, in this space.
WITH_FINDINGS = {"table4", "ablations", "searched_top", "memory"}


def only(*stages):
    """The stages in their order, and the page of claims if one of them has findings."""
    page = ["claims"] if WITH_FINDINGS & set(stages) else []
    return [stage for stage in ALL if stage in (*stages, *page)]


OF_SEARCH = ("anytime/top", "anytime/best", "anytime_curves")
ANYTIME = only(*OF_SEARCH, "anytime/random", "anytime/msdnet")
WINNER = ("winner", "best", "table2", "export", "mobile", "table3")
SHORT = ("short", "searched_top", *WINNER)
SEARCH = ("search", "benchmark", "search_curves", "top", "table1", *SHORT, *OF_SEARCH)
SCORED = ("scores/ghn", "table4", "ablations", *SEARCH)
NOT_MEMORY = [stage for stage in ALL if stage != "memory"]
PROXIES = only("scores/proxies", "benchmark", "table4")
STACK = {"blocks": 15, "channels": 16, "reductions": [6, 11], "stem_multiplier": 1}
# trained from scratch, by the recipe of the ground truth
FEW_STEPS = ("scores/sgd", "benchmark", "table4")
TRAININGS = NOT_MEMORY[1:]
# a baseline belongs to no search space
OF_SPACE = [stage for stage in ALL if stage != "anytime/msdnet"]
DRAWN = [stage for stage in OF_SPACE if stage != "memory"]
SEARCHING = only("ghn", "oneshot", "scores/oneshot", *SCORED)
GHN = only("ghn", *SCORED)
GHN_AND_MEMORY = only(*GHN, "memory")  # which is measured with the first GHN
BOTH = only(*SEARCHING, "memory")
ONESHOT = only("oneshot", "scores/oneshot", "benchmark", "table4")
TRUTH = ("sgd", "repeat", "table4", "ablations", "searched_top")
FINALISTS = ("top", "table1", "best", "table2", "export")
BEST = only("best", "table2", "export")
MOBILE = only("mobile", "table3")
TABLES = ("table1", "table2", "table3", "table4", "ablations", "benchmark", "searched_top")
COMPARED = ("table4", "ablations", "benchmark", "searched_top")

OF_DENSENET = {"channels": 3, "growth": 3, "bottleneck": 3, "reduction": 0.25}

#: parameters to change, another valid value, and what must be made anew: from the meaning of each
TABLE = [
    # it stands in the titles
    ("scale", "other", only(*TABLES, "search_curves", "export", "memory", "anytime_curves")),
    ("cpu_is_enough", False, []),
    ("data.folder", "elsewhere", []),  # whatever the source, the bytes are the same
    ("data.sources", ["npm"], []),
    ("data.local", "/copy", []),
    ("images.train", 576, TRAININGS),
    ("images.validation", 300, TRAININGS),
    ("images.resolution", 16, only(*TRAININGS, "memory")),
    ("images.padding", 2, TRAININGS),
    ("space.nodes", 4, OF_SPACE),
    ("space.max_inputs", 1, OF_SPACE),
    ("space.operations", ["identity", "conv_1x1"], OF_SPACE),
    ("network.blocks", 3, OF_SPACE[1:]),
    ("network.channels", 8, OF_SPACE[1:]),
    ("network.reductions", [1], OF_SPACE[1:]),
    ("network.stem_multiplier", 2, OF_SPACE[1:]),
    ("ghn.nodes", 4, GHN_AND_MEMORY),
    ("ghn.passes", 2, GHN_AND_MEMORY),
    ("ghn.embedding", 16, GHN_AND_MEMORY),
    ("ghn.message_hidden", 16, GHN_AND_MEMORY),
    ("ghn.hypernetwork_hidden", 16, GHN_AND_MEMORY),
    ("ghn.positions", True, GHN_AND_MEMORY),
    ("ghn.fewer_nodes", True, GHN_AND_MEMORY),
    # the GHN and the one-shot model share their training
    ("training.epochs", 4, BOTH),
    ("training.batch", 32, BOTH),
    ("training.learning_rate", 0.01, BOTH),
    ("training.halve_at", [2], BOTH),
    ("training.clip", 1.0, BOTH),
    ("training.operation_weights", {"conv_1x1": 2}, BOTH),
    ("training.warmup", 10, BOTH),
    ("training.average", 0.9, BOTH),
    # a further seed leaves the first as it is
    ("training.seeds", [0, 1], only("table4", "ablations", "benchmark")),
    ("oneshot", {"clip": 1.0}, ONESHOT),
    # the short training of the search's best is that of the ground truth
    ("sgd.epochs", 4, only(*TRUTH, *SHORT, *FEW_STEPS)),
    ("sgd.batch", 32, only(*TRUTH, *SHORT, *FEW_STEPS)),
    ("sgd.learning_rate", 0.1, only(*TRUTH, *SHORT, *FEW_STEPS)),
    ("sgd.momentum", 0.5, only(*TRUTH, *SHORT, *FEW_STEPS, "memory")),
    ("sgd.weight_decay", 0.0, only(*TRUTH, *SHORT, *FEW_STEPS)),
    # the batches on which SGD stopped early, and the others, are judged
    (
        "evaluation.batch",
        50,
        only(*TRUTH, "scores/oneshot", "scores/sgd", "anytime/random", "anytime/msdnet", *SCORED),
    ),
    ("evaluation.batches", 1, only("scores/oneshot", "scores/sgd", *SCORED)),
    ("evaluation.measure", "likelihood", only("scores/oneshot", *SCORED)),
    # what is done of a scoring is kept by groups
    ("evaluation.together", 3, only("scores/oneshot", "scores/sgd", *PROXIES, *SCORED)),
    ("correlation.drawn", 7, DRAWN),
    ("correlation.architectures", 6, only("table4", "ablations", "searched_top")),
    ("correlation.repeats", 4, only("table4")),
    ("correlation.steps", [5], only(*FEW_STEPS)),
    ("correlation.confidence", 0.9, only(*COMPARED, "anytime_curves")),
    ("proxies.batch", 32, PROXIES),
    ("benchmark.top", 0.2, ["benchmark"]),
    ("benchmark.images", 100, SEARCHING),
    ("ablations.figure5a", ["nodes-5"], only("ablations")),
    ("ablations.figure5b", ["default"], only("ablations")),
    ("ablations.table5", ["default"], only("ablations")),
    ("search.seeds", [0, 7], only("search_curves", "benchmark")),
    ("search.evaluations", 13, only(*SEARCH)),
    # the random search, which chooses the finalists, has none of these
    ("search.population", 5, ["search_curves"]),
    ("search.sample", 3, ["search_curves"]),
    ("search.generation", 3, ["search_curves"]),
    # which of them are trained, not how
    ("finalists.ranks", [0, 1], only("table1", "searched_top", "benchmark", *WINNER)),
    ("finalists.seeds", [0, 4], ["table2"]),
    ("finalists.workers", 8, only(*FINALISTS)),
    ("finalists.epochs", 3, only(*FINALISTS)),
    ("finalists.batch", 128, only(*FINALISTS)),
    ("finalists.norm_batch", 32, only(*FINALISTS)),
    ("finalists.learning_rate", 0.1, only(*FINALISTS)),
    ("finalists.warmup_epochs", 0, only(*FINALISTS)),
    ("finalists.momentum", 0.5, only(*FINALISTS)),
    ("finalists.weight_decay", 0.0, only(*FINALISTS)),
    ("finalists.drop_path", 0.1, only(*FINALISTS)),
    ("finalists.auxiliary_weight", 0.1, only(*FINALISTS)),
    ("finalists.auxiliary_channels", [4, 4], only(*FINALISTS)),
    ("finalists.cutout", 2, BEST),
    ("finalists.label_smoothing", 0.1, only(*FINALISTS)),
    ("mobile.folder", "imagenet", MOBILE),
    ("mobile.resolution", 64, MOBILE),
    ("mobile.blocks", 5, MOBILE),
    ("mobile.reductions", [1], MOBILE),
    ("mobile.stem_stride", 1, MOBILE),
    ("mobile.multiply_adds", 2, MOBILE),
    ("mobile.processes", 2, []),
    ("mobile.nodes", 1, []),
    ("mobile.workers", 4, MOBILE),
    ("mobile.epochs", 3, MOBILE),
    ("mobile.batch", 16, MOBILE),
    ("mobile.norm_batch", 4, MOBILE),
    ("mobile.learning_rate", 0.1, MOBILE),
    ("mobile.decay", 0.5, MOBILE),
    ("mobile.warmup_epochs", 0, MOBILE),
    ("mobile.momentum", 0.5, MOBILE),
    ("mobile.weight_decay", 0.0, MOBILE),
    ("mobile.drop_path", 0.1, MOBILE),
    ("mobile.auxiliary_weight", 0.1, MOBILE),
    ("mobile.auxiliary_channels", [4, 4], MOBILE),
    ("mobile.cutout", 2, MOBILE),
    ("mobile.label_smoothing", 0.0, MOBILE),
    ("anytime.top", [0, 1], only("anytime/best", "anytime_curves")),
    ("anytime.random", [0, 1, 2], ["anytime_curves"]),
    # the best is made as large as the baseline
    ("anytime.msdnet.blocks", 3, only("anytime/best", "anytime/msdnet", "anytime_curves")),
    ("anytime.msdnet.base", 3, only("anytime/best", "anytime/msdnet", "anytime_curves")),
    ("anytime.msdnet.step", 3, only("anytime/best", "anytime/msdnet", "anytime_curves")),
    ("anytime.msdnet.channels", 3, only("anytime/best", "anytime/msdnet", "anytime_curves")),
    ("anytime.msdnet.growth", 3, only("anytime/best", "anytime/msdnet", "anytime_curves")),
    *(
        (f"anytime.{name}.{key}", value, ["anytime_curves"])
        for name, keys in {
            "resnet_mc": {"blocks": 9, "channels": 3, "exits": [1]},
            "resnet_ensemble": {"blocks": [3], "channels": 3},
            "densenet_mc": {"layers": 7, "exits": [1]},
            "densenet_ensemble": {"layers": [3]},
        }.items()
        for key, value in {**keys, **(OF_DENSENET if "dense" in name else {})}.items()
    ),
    ("anytime.epochs", 3, ANYTIME),
    ("anytime.batch", 32, ANYTIME),
    ("anytime.learning_rate", 0.5, ANYTIME),
    ("anytime.divide_at", [1], ANYTIME),
    ("anytime.momentum", 0.5, ANYTIME),
    ("anytime.nesterov", False, ANYTIME),
    ("anytime.weight_decay", 0.0, ANYTIME),
    ("memory.nodes", [2, 4], only("memory")),
    ("tables.costs", True, only("table1", "table2", "table3", "table4", "benchmark")),
    ("seeds.split", 9, TRAININGS),
    ("seeds.test_architectures", 9, DRAWN),
    ("seeds.training_architectures", 9, SEARCHING),
    ("seeds.data_order", 9, TRAININGS),
    ("seeds.initialisation", 9, TRAININGS),
    ("seeds.search", 9, only(*SEARCH)),
    ("compute.device", "cpu", []),
    ("compute.threads", 2, []),
    ("compute.workers", 3, []),
    ("compute.loaders", 3, []),
    ("compute.precision", "float32", []),
    ("compute.checkpoint_seconds", 5, []),
    ("compute.log_seconds", 5, []),
    ("compute.minutes", 20, []),
    ("compute.stop_seconds", 30, []),
    ("compute.memory_mb", 9000, []),
    ("compute.cores", 3, []),
]

#: what the ablations of the smoke preset vary, or vary from: alone it is no valid change
VARIED = ["ghn.scheme", "ghn.share_parameters", "ghn.pass_embeddings", "ghns.default"]
#: What makes a configuration one of NAS-Bench-201, and what only such a one may have.
PUBLISHED = {
    "space.name": "nasbench201",
    "space.max_inputs": None,
    "space.operations": ["none", "conv_3x3"],
    "correlation.selection": 4,
    "benchmark.images": 100,
    "evaluation.measure": "flow",
    "evaluation.flow": 0.001,
}
ITS_OWN = [
    ("correlation.selection", 3, DRAWN),
    # the learning curve is measured, and recorded, by the training
    ("benchmark.curve", 2, SEARCHING),
    ("evaluation.flow", 0.002, only("scores/oneshot", *SCORED)),
    ("proxies.network", STACK, PROXIES),
    ("proxies.resolution", 32, PROXIES),
]
#: What makes a configuration one of DARTS cells, and what only such a one may have.
LISTED = {
    "space.name": "darts",
    "space.nodes": 4,
    "space.max_inputs": None,
    "space.operations": list(OPERATIONS.values()),
    "correlation.ghns": ["default"],
    "benchmark.images": 100,
    "evaluation.measure": "likelihood",
    "benchmark.table": "cells.csv",
}
#: What makes a configuration one of networks with exits, and what only such a one may have.
WITH_EXITS = {
    "space.name": "anytime",
    "space.exits": 3,
    "space.operations": ["dense_conv_1x1", "dense_conv_3x3"],
    "network.blocks": 3,
    "network.reductions": [2, 3],
    "evaluation.budgets": [1.0, 2.0],
    "evaluation.measure": "area",
    "correlation.drawn": 12,
}
OF_EXITS = [
    ("space.exits", 4, OF_SPACE),
    ("evaluation.budgets", [1.0, 3.0], only("scores/oneshot", *SCORED)),
    ("anytime.rivals", ["msdnet"], ["anytime_curves", "claims"]),
]
ABLATED = only("ablations")
SHARED_OUT = {"finalists.processes": 1, "finalists.nodes": 1}

STAGES = {
    **{stage: stage for stage in ALL},
    "ghn": "ghn/default",
    "oneshot": "oneshot/0",
    "sgd": "sgd/3",
    "repeat": "repeat/1",
    "scores/ghn": "scores/ghn/default",
    "scores/oneshot": "scores/oneshot/0",
    "search": "search/random/0",
    "short": "short/0",
    "top": "finalists/top/0",
    "best": "finalists/best/0",
    "searched_top": "top",
    "anytime/top": "anytime/top/0",
    "anytime/random": "anytime/random/0",
}


def digests(config):
    return {name: digest(settings(config, stage)) for name, stage in STAGES.items()}


@pytest.mark.parametrize(("path", "value", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_parameter_changes_what_depends_on_it(path, value, expected, configured):
    before, after = digests(configured()), digests(configured({path: value}))
    assert [stage for stage in ALL if before[stage] != after[stage]] == expected


@pytest.mark.parametrize(("path", "value", "expected"), ITS_OWN, ids=[row[0] for row in ITS_OWN])
def test_a_parameter_of_published_accuracies(path, value, expected, configured):
    before, after = digests(configured(PUBLISHED)), digests(configured({**PUBLISHED, path: value}))
    assert [stage for stage in ALL if before[stage] != after[stage]] == expected


def test_the_content_of_a_table_changes_everything_and_its_path_nothing(
    configured, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("cells.csv").write_text("one", encoding="utf-8")
    Path("others.csv").write_text("another", encoding="utf-8")
    Path("copy.csv").write_text("one", encoding="utf-8")
    before, other, copy = (
        digests(configured({**LISTED, "benchmark.table": f"{name}.csv"}))
        for name in ("cells", "others", "copy")
    )
    assert [stage for stage in ALL if before[stage] != other[stage]] == DRAWN
    assert before == copy
    Path("copy.csv").write_text("another", encoding="utf-8")
    assert digests(configured({**LISTED, "benchmark.table": "copy.csv"})) == other
    Path("cells.csv").unlink()
    with pytest.raises(UserError, match=r"cells\.csv \(benchmark\.table\): No such file.*SWAP"):
        digests(configured(LISTED))


@pytest.mark.parametrize(("path", "value", "expected"), OF_EXITS, ids=[row[0] for row in OF_EXITS])
def test_a_parameter_of_networks_with_exits(path, value, expected, configured):
    changes = {**WITH_EXITS, path: value}
    before, after = digests(configured(WITH_EXITS)), digests(configured(changes))
    assert [stage for stage in ALL if before[stage] != after[stage]] == expected


@pytest.mark.parametrize("other", [PUBLISHED, WITH_EXITS])
def test_the_space_changes_everything(other, configured):
    before, after = digests(configured()), digests(configured(other))
    assert all(before[stage] != after[stage] for stage in OF_SPACE)


def test_the_table_names_every_parameter(smoke_settings):
    def leaves(settings, prefix=""):
        for key, value in settings.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    # `method` has one value only, that of the code; `correlation.ghns` has a test of its own
    others = ["method", "correlation.ghns", "space.name", "benchmark.table", *VARIED, *SHARED_OUT]
    named = [*others, *{path for path, _, _ in (*TABLE, *ITS_OWN, *OF_EXITS)}]
    there = [path for path in leaves(smoke_settings) if not path.startswith("ghns.")]
    assert sorted(named) == sorted([*there, "ghns.default"])


def test_how_many_processes_share_the_work_changes_nothing(configured):
    assert digests(configured()) == digests(configured(SHARED_OUT))


def test_another_ghn_beside_the_first_changes_nothing(configured):
    before, after = digests(configured()), digests(configured({"ghns.more": {"passes": 2}}))
    assert before == after


def test_another_first_ghn_changes_what_is_made_of_the_first(configured):
    before, ghns = digests(configured()), configured().correlation.ghns
    more = {"ghns.more": {"passes": 2}, "correlation.ghns": [*ghns, "more"]}
    with_more = digests(configured(more))
    # all GHNs are held against published accuracies, and against one another
    assert [stage for stage in ALL if before[stage] != with_more[stage]] == ABLATED
    after = digests(configured({**more, "correlation.ghns": ["more", *ghns]}))
    changed = [stage for stage in ALL if before[stage] != after[stage]]
    assert changed == only("table4", "memory", *ABLATED, *SEARCH)


def test_each_ghn_has_settings_of_its_own(configured):
    config = configured({"ghns.same": {}, "ghns.more": {"passes": 2}})
    default, same, more = (
        digest(settings(config, f"ghn/{name}")) for name in ("default", "same", "more")
    )
    assert default == same != more


def test_an_unknown_stage_is_refused(configured):
    with pytest.raises(UserError, match="no stage 'table9'"):
        settings(configured(), "table9")
    with pytest.raises(UserError, match="no stage 'finalists/0'"):
        settings(configured(), "finalists/0")
    with pytest.raises(UserError, match="no stage 'ghn/other'"):
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
    assert len({result_folder(config, "oneshot/0") for config in configs}) == 3
