"""The declarations of the stages: one rule, one verb and one folder for each kind."""

from collections import defaultdict

import pytest

from ghn_pipeline.pipeline.stage import Job, all_settings, declared, find, read_by, stage, value
from ghn_pipeline.space.spaces import SPACES
from ghn_pipeline.system.errors import UserError


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
