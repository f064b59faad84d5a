"""The declarations of the stages: one rule, one verb and one folder for each kind."""

from collections import defaultdict

import pytest

from ghn_pipeline.pipeline.stage import (
    Job,
    all_settings,
    declared,
    filled,
    find,
    needed,
    read_by,
    settings,
    stage,
    value,
)
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest


def test_stages_of_one_kind_differ_in_what_they_read_alone() -> None:
    """Snakemake has one rule for all of a kind: its outputs and resources are the same."""
    kinds = defaultdict(set)
    for one in declared():
        shared = (one.writes, one.needs, one.memory_mb, one.minutes, one.root, one.name != one.kind)
        kinds[one.kind].add((*shared, repr(one.shown)))
    assert {kind: len(found) for kind, found in kinds.items()} == dict.fromkeys(kinds, 1)


def test_every_chapter_is_of_a_space_and_every_entry_of_reads_is_a_stage() -> None:
    chapters = {chapter for space in SPACES.values() for chapter in space.chapters}
    for one in declared():
        assert set(one.chapters) <= chapters, one.name
        for pattern, files in one.inputs():
            assert set(files) <= set(read_by(pattern).files), (one.name, pattern)
    with pytest.raises(UserError, match="a declaration reads 'ghns/x', which is no stage"):
        read_by("ghns/x")


def test_stages_of_one_function_stand_in_the_order_of_the_file() -> None:
    names = [one.name for one in declared()]
    assert names.index("finalists/top/RANK") < names.index("finalists/best/SEED")
    assert names[:3] == ["data", "architectures", "ghn/NAME"]


def test_a_record_names_each_setting_once(configured) -> None:
    """MLflow refuses a run with a setting given twice."""
    config = configured()
    for one in declared():
        for name in one.names(config, made=True):
            flat = [
                f"{path}.{key}" if isinstance(each, dict) else path
                for path, each in all_settings(config, name).items()
                for key in (each if isinstance(each, dict) else [""])
            ]
            assert len(set(flat)) == len(flat), name


def test_a_part_of_another_spaces_kind_is_refused_for_its_space(configured) -> None:
    with pytest.raises(UserError, match="anytime/foo belongs to the chapter anytime_prediction"):
        find(configured(), "anytime/foo")


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("memory", {}, "there is a stage 'memory' already"),
        ("mine", {"reads": "data"}, r"reads is a text; write \('data',\)"),
        ("mine", {"chapters": "correlation"}, "chapters is a text"),
        ("mine", {"needs": "litle"}, "there is no needs='litle' .did you mean little"),
    ],
)
def test_a_faulty_declaration_is_one_message(name, more, said) -> None:
    def work(job: Job) -> None:
        """Do nothing."""

    with pytest.raises(UserError, match=said):
        stage(name, **{"writes": (), **more})(work)


def test_a_function_without_a_docstring_is_no_stage() -> None:
    with pytest.raises(UserError, match="stage mine: its function has no docstring"):
        stage("mine", writes=())(lambda job: None)


def test_a_setting_that_there_is_not_is_named(configured) -> None:
    with pytest.raises(UserError, match=r"names the setting 'sgd\.epoch', which there is not"):
        value(configured(), "sgd.epoch")


# ---- what a change of the settings makes stale --------------------------------------------------


def digests(config) -> dict[str, str]:
    stages = [one for one in needed(config.space.chapters) if one.record]
    return {name: digest(settings(config, name)) for one in stages for name in one.names(config)}


def kinds_of_stale(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name.partition("/")[0] for name in before if after[name] != before[name]}


def test_what_all_trainings_inherit_changes_ghns_and_one_shot_models(configured) -> None:
    before, after = digests(configured()), digests(configured({"training.warmup": 5}))
    trained = {name for name in before if name.startswith(("ghn/", "oneshot/"))}
    assert len(trained) > 2
    assert all(before[name] != after[name] for name in trained)
    # what reads them is stale with them, and the ground truth is not
    assert not kinds_of_stale(before, after) & {"architectures", "sgd", "repeat"}
    assert {"scores", "search", "winner"} <= kinds_of_stale(before, after)
    assert before["scores/sgd"] == after["scores/sgd"]


@pytest.mark.parametrize("key", ["warmup", "average", "seeds", "operation_weights", "clip"])
def test_what_one_model_changes_leaves_the_other_as_it_is(configured, key) -> None:
    changed = {"warmup": 5, "average": 0.5, "seeds": [3], "clip": 1.0}
    before = digests(configured())
    changes = changed.get(key, {"identity": 2})
    of_ghns = digests(configured({"ghn": {key: changes}}))
    assert of_ghns["oneshot/0"] == before["oneshot/0"]
    assert of_ghns["ghn/default"] != before["ghn/default"]
    if key != "seeds":  # whose name is another
        of_oneshot = digests(configured({"oneshot": {key: changes}}))
        assert of_oneshot["ghn/default"] == before["ghn/default"]
        assert of_oneshot["oneshot/0"] != before["oneshot/0"]


def test_a_further_seed_leaves_what_was_trained_as_it_is(configured) -> None:
    before, after = digests(configured()), digests(configured({"training.seeds": [0, 7]}))
    for model in ("ghn/default", "ghn/stacked", "oneshot/0"):
        assert after[model] == before[model]
        assert after[f"scores/{model}"] == before[f"scores/{model}"]
    new = {"ghn/default-7", "ghn/stacked-7", "oneshot/7", "scores/ghn/default-7"}
    assert new <= set(after) - set(before)
    assert after["ghn/default-7"] != after["ghn/default"]
    assert after["oneshot/7"] != after["oneshot/0"]
    # nor is a search by the first one, or the ground truth
    assert kinds_of_stale(before, after) <= {"table4", "ablations", "claims"}


def test_more_repeats_or_other_early_steps_leave_the_truth_as_it_is(configured) -> None:
    before = digests(configured())
    for changes in ({"correlation.repeats": 4}, {"correlation.steps": [20]}):
        after = {**before, **digests(configured(changes))}
        assert not kinds_of_stale(before, after) & {"sgd", "repeat", "ghn", "oneshot", "short"}


# ---- what may read what -------------------------------------------------------------------------


def behind(config, name: str) -> set[str]:
    """Every stage that a stage is made of, itself included."""
    one, part = find(config, name)
    read = {
        below
        for pattern, _ in one.inputs(config.space.chapters)
        for below in filled(config, pattern, part)
    }
    return {name}.union(*(behind(config, below) for below in read))


def test_no_choice_and_no_method_reads_the_ground_truth(configured) -> None:
    config = configured()
    assert {"sgd/4", "repeat/2", "scores/sgd"} <= behind(config, "table4")
    methods = ("scores/ghn/default", "scores/oneshot/0", "scores/proxies", "scores/sgd")
    for name in ("winner", "finalists/best/0", "search/random/0", *methods):
        kinds = {stage.partition("/")[0] for stage in behind(config, name)}
        assert not kinds & {"sgd", "repeat"}, name


def test_what_a_space_lacks_is_not_read(configured) -> None:
    config = configured()
    (claims,) = (one for one in declared() if one.name == "claims")
    read = {name for name, _ in claims.inputs(config.space.chapters)}
    assert "table4" in read
    assert not read & {"benchmark", "anytime_curves"}
    assert {"benchmark", "anytime_curves"} <= {name for name, _ in claims.inputs()}
