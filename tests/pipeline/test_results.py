"""What earlier stages made, read back: against results that are written by hand."""

import hashlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from conftest import CELLS, ROOT
from stage_results import finish, listed

from ghn_pipeline.model.graph import Block
from ghn_pipeline.pipeline import results, spaces
from ghn_pipeline.pipeline.stage import Job, find
from ghn_pipeline.pipeline.stage import command as maker_of
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError

# ---- which command makes what ------------------------------------------------------------------

#: {command: stage} of every stage with a record, by DVC's graph, as {"ghn sgd X": "sgd/X"}
MAKERS = {
    re.sub(r"\$\{[^}]*\}", "X", stage["cmd"]): re.sub(r"\$\{(item|key)[^}]*\}", "X", found[1])
    for one in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    for stage in [one.get("do", one)]
    for out in stage["outs"]
    if (found := re.fullmatch(r"results/\$\{scale\}/(.*)/run\.json", str(out)))
}


def test_there_are_records_of_all_kinds() -> None:
    kinds = {stage.partition("/")[0] for stage in MAKERS.values()}
    assert kinds == {
        *("architectures", "ghn", "oneshot", "sgd", "repeat", "scores", "search", "short"),
        "winner",
        *("finalists", "mobile", "memory", "export"),
    }


@pytest.mark.parametrize(("command", "stage"), MAKERS.items(), ids=MAKERS.values())
def test_the_maker_of_a_stage_is_the_command_that_writes_its_record(
    command: str, stage: str
) -> None:
    assert maker_of(stage) == command


# ---- searches, finalists and the winner --------------------------------------------------------


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


#: The digest of the weights that score.
WEIGHTS = {"model.pt": hashlib.sha256(b"weights").hexdigest()}


def weigh(config: Config, model: str, content: bytes = b"weights") -> None:
    """Write a finished training and the weights that it ended with."""
    finish(config, model, files={"model.pt": content})


def search(config: Config, accuracies: list[float], seed: int = 0) -> list[Block]:
    """Write a random search that found these accuracies; return its architectures."""
    space, rng = spaces.space_of(config), Random(seed)
    blocks = [space.sample(rng, config.space.nodes) for _ in accuracies]
    files = {"architectures.json": listed(blocks, accuracy=accuracies)}
    finish(config, f"search/random/{seed}", files=files, inputs=WEIGHTS)
    weigh(config, "ghn/default")
    return blocks


def test_finalists_are_the_best_of_the_search_and_the_first_it_drew(configured: Any) -> None:
    config = configured()
    blocks = search(config, [0.3, 0.5, 0.1, 0.5])
    assert results.searched(config, "search/random/0") == list(
        zip(blocks, [0.3, 0.5, 0.1, 0.5], strict=True)
    )
    top = [results.finalist(config, "top", rank) for rank in range(4)]
    # of equals the first is better
    assert top == [blocks[1], blocks[3], blocks[0], blocks[2]]
    assert [results.finalist(config, "random", rank) for rank in range(4)] == blocks
    for group in ("top", "random"):
        for rank in (-1, 4):
            with pytest.raises(UserError, match=rf"rank {rank}: .* 0 to 3"):
                results.finalist(config, group, rank)


def test_the_first_random_search_chooses(configured: Any) -> None:
    config = configured({"search.seeds": [3, 0]})
    search(config, [0.9, 0.1], seed=0)
    blocks = search(config, [0.1, 0.2], seed=3)
    assert results.finalist(config, "top", 0) == blocks[1]


def test_the_winner_is_what_was_chosen_whatever_the_seed(configured: Any) -> None:
    config = configured()
    block = spaces.space_of(config).sample(Random(5), config.space.nodes)
    finish(config, "winner", {"hash": block.hash, "block": block.to_json()})
    assert results.winner(config) == results.finalist(config, "best", 7) == block


def test_what_is_not_there_stale_or_not_whole_is_named(configured: Any) -> None:
    config = configured()
    with pytest.raises(UserError, match=r"search/random/0.*`ghn search random/0`: run that first"):
        results.finalist(config, "top", 0)
    with pytest.raises(UserError, match=r"winner.*`ghn winner`: run that first"):
        results.winner(config)
    finish(configured({"sgd.epochs": 9}), "winner")
    with pytest.raises(UserError, match=r"winner.* is stale.*`ghn winner` again"):
        results.finalist(config, "best", 0)
    blocks = search(config, [0.5])
    (entry,) = json.loads(listed(blocks, accuracy=[0.5]))
    others = [{**entry, "hash": "0" * 16}, {**entry, "accuracy": 9.9}, {**entry, "accuracy": None}]
    for content in (
        '[{"accuracy": 0.5}]',
        '{"0": 1}',
        "[1]",
        *map(json.dumps, ([o] for o in others)),
    ):
        finish(config, "search/random/0", files={"architectures.json": content}, inputs=WEIGHTS)
        said = "holds no list of architectures .* Run `ghn search random/0` again"
        with pytest.raises(UserError, match=said):
            results.finalist(config, "random", 0)
    finish(config, "search/random/0", files={"architectures.json": listed(blocks)}, inputs=WEIGHTS)
    with pytest.raises(UserError, match="an architecture without accuracy"):
        results.finalist(config, "random", 0)


# ---- architectures that are held out -----------------------------------------------------------

DRAWN = {**CELLS, "correlation.drawn": 8, "correlation.selection": 6}


@pytest.fixture
def drawn(configured: Any) -> tuple[Config, list[Block], list[Block]]:
    """Write test architectures and others for choices, by hand: the configuration, and both."""
    config = configured(DRAWN)
    space = spaces.space_of(config)
    blocks = [space.sample(Random(i), config.space.nodes) for i in range(14)]
    draw(config, listed(blocks[:8]), listed(blocks[8:]))
    return config, blocks[:8], blocks[8:]


def draw(config: Config, test: str, selection: str) -> None:
    files = {"architectures.json": test, "selection.json": selection}
    finish(config, "architectures", files=files)


def test_what_was_drawn_is_read_back_and_all_of_it_held_out(
    drawn: tuple[Config, list[Block], list[Block]],
) -> None:
    config, test, selection = drawn
    assert results.architectures_of(config) == test
    assert results.selection_of(config) == selection
    # hashes of cells, which are equal for more than those of plain blocks
    assert results.held_out(config) == {block.hash for block in test + selection}


@pytest.mark.parametrize("name", ["architectures", "selection"])
def test_architectures_that_are_not_whole_are_refused(
    name: str, drawn: tuple[Config, list[Block], list[Block]]
) -> None:
    config, test, selection = drawn
    parts = {"architectures": test, "selection": selection}
    for content, said in (
        (listed(parts[name][:-1]), rf"{name}\.json holds \d architectures"),
        ('[{"hash": "a"}]', rf"{name}\.json holds no list of architectures"),
        ("[", rf"{name}\.json is not whole JSON"),
    ):
        draw(config, *({**{k: listed(b) for k, b in parts.items()}, name: content}.values()))
        with pytest.raises(UserError, match=rf"{said}.*`ghn architectures`"):
            results.held_out(config)


@pytest.mark.parametrize("name", ["architectures", "selection"])
def test_rows_that_were_swapped_are_refused(
    name: str, drawn: tuple[Config, list[Block], list[Block]]
) -> None:
    config, *_ = drawn
    path = Path(f"results/smoke/architectures/{name}.json")
    first, second, *rest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([second, first, *rest]), encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name}\.json is not the file that was written"):
        results.held_out(config)


def test_one_more_selected_makes_what_was_drawn_stale(
    configured: Any, drawn: tuple[Config, list[Block], list[Block]]
) -> None:
    with pytest.raises(
        UserError, match=r"architectures/run.json is stale.*`ghn architectures` again"
    ):
        results.architectures_of(configured({**DRAWN, "correlation.selection": 7}))


# ---- what no longer belongs together -----------------------------------------------------------


def test_a_search_by_weights_that_are_no_more_is_refused(configured: Any) -> None:
    config = configured()
    search(config, [0.5, 0.4])
    weigh(config, "ghn/default", b"trained once more")
    with pytest.raises(UserError, match=r"`ghn search random/0` again"):
        results.finalist(config, "top", 0)


def test_a_training_of_another_architecture_is_refused(configured: Any) -> None:
    config = configured()
    blocks = search(config, [0.5, 0.4])
    finish(config, "short/0", {"hash": blocks[0].hash})
    assert results.trained_on(config, "short/0", blocks[0])["result"]["hash"] == blocks[0].hash
    with pytest.raises(UserError, match=r"short/0 trained .* `ghn short 0` again"):
        results.trained_on(config, "short/0", blocks[1])


# ---- the accuracies of trainings ---------------------------------------------------------------


@pytest.mark.parametrize("on_test", [[0.1, 0.2, 0.9], [0.9, 0.2, 0.1]])
def test_the_winner_is_chosen_by_validation_images_alone(
    configured: Any, on_test: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghn_pipeline.pipeline.tracking.done", lambda folder: None)
    config = configured({"finalists.ranks": [0, 1, 2]})
    blocks = search(config, [0.7, 0.6, 0.5])
    for rank, (validation, test) in enumerate(zip([0.3, 0.5, 0.4], on_test, strict=True)):
        measured = {30: {"validation": validation, "test": test, "seconds": 1.0}}
        finish(config, f"short/{rank}", {"hash": blocks[rank].hash, "measured": measured})
    find(config, "winner")[0].work(Job(config, "winner", []))
    assert results.winner(config) == blocks[1]
    found = json.loads(Path("results/smoke/winner/run.json").read_text(encoding="utf-8"))["result"]
    assert found["of"] == {"0": 0.3, "1": 0.5, "2": 0.4}


def test_truths_and_repeats_are_read_in_order(configured: Any) -> None:
    config = configured()  # of five trained, three again
    for kind, count, start in (("sgd", 5, 0.1), ("repeat", 3, 0.5)):
        for i in range(count):
            measured = {30: {"validation": 0.9, "test": start + i / 10, "seconds": 1.0}}
            finish(config, f"{kind}/{i}", {"measured": measured})
    truths, repeats = results.truths(config), results.repeats(config)
    assert list(results.accuracies(truths, "test")) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert list(results.accuracies(repeats, "test")) == pytest.approx([0.5, 0.6, 0.7])
    assert list(results.accuracies(repeats, "validation")) == [0.9] * 3
