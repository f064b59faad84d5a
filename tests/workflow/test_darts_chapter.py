"""DARTS cells from a table to the benchmark's table, at a size that says nothing of them."""

import json
from collections import Counter
from random import Random

import numpy as np
import pytest
import yaml
from scipy import stats

from ghn_pipeline.data.darts_cells import OPERATIONS, parsed, written
from ghn_pipeline.spaces.darts import Cell
from ghn_pipeline.training import ghn as ghn_training

pytestmark = pytest.mark.slow

TINY = {
    "scale": "tiny",
    "images": {"train": 320, "validation": 100, "resolution": 8, "padding": 1},
    "network": {"channels": 4},
    "training": {"epochs": 2, "batch": 64, "warmup": 2, "seeds": [0, 1]},
    "ghn": {"nodes": 2},
    "oneshot": {"epochs": 1, "seeds": [0]},
    "sgd": {"epochs": 1},
    "evaluation": {"batch": 100, "batches": 1},
    "correlation": {
        "drawn": 8,
        "selection": 3,
        "steps": [2],
    },
    "proxies": {"batch": 16},
    "benchmark": {"table": "cells.csv", "curve": 1, "images": 100},
    "search": {"evaluations": 12, "population": 10, "sample": 5, "generation": 5},
    "finalists": {"batch": 20, "norm_batch": 20},
    "tables": {"costs": False},
}


def rows_of(count: int = 12) -> list[tuple[str, float]]:
    """Cells of four sums, of which no two are alike, and accuracies."""
    rng = Random(5)
    cells = [
        [(rng.choice(OPERATIONS), rng.randrange(2 + v)) for v in range(4) for _ in range(2)]
        for _ in range(count)
    ]
    return [(written(cell), 60 + i + rng.random()) for i, cell in enumerate(cells)]


ROWS = rows_of()


def write_table(place, rows):
    text = "".join(f'"{genotype}",{accuracy}\n' for genotype, accuracy in rows)
    (place.folder / "cells.csv").write_text(text, encoding="utf-8")


FILES = ("presets/darts.yaml", "tiny.yaml")


@pytest.fixture(scope="module")
def made(workplaces):
    place = workplaces("darts")
    tiny = yaml.safe_load((place.folder / "presets/darts.yaml").read_text(encoding="utf-8"))
    tiny.update(scale="tiny")
    (place.folder / "presets/darts.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    (place.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    refused = place.run("snakemake", "benchmark", "--cores", "2", "--configfile", *FILES)
    assert refused.returncode == 1
    (place.folder / "refused.txt").write_text(refused.stderr, encoding="utf-8")
    assert not (place.folder / "results").exists()
    write_table(place, ROWS)
    done = place.run("snakemake", "benchmark", "--cores", "2", "--configfile", *FILES)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return place


def read(place, name):
    return json.loads((place.folder / "results/tiny" / name).read_text(encoding="utf-8"))


def cells_of(place, name):
    return [
        Cell.of([(op, _number(v, read_[0])) for v, (op, read_) in enumerate(block) if _edge(v)])
        for block in (entry["block"] for entry in read(place, f"architectures/{name}.json"))
    ]


def _edge(v):
    return v > 1 and (v - 2) % 3 < 2


def _number(v, place):
    """The number in DARTS of a node by its place."""
    return 1 - place if place < 2 else (place + 2) // 3


def test_a_missing_table_is_said_before_any_job(made):
    said = (made.folder / "refused.txt").read_text(encoding="utf-8").strip().splitlines()
    assert said[-1].startswith("snakemake: cannot read cells.csv (benchmark.table): No such file")
    assert "pym1024/SWAP" in said[-1]
    assert "Traceback" not in "".join(said)


def test_test_set_and_selection_are_cells_of_the_table(made):
    test, selection = cells_of(made, "architectures"), cells_of(made, "selection")
    assert (len(test), len(selection)) == (8, 3)
    drawn = [cell.genotype for cell in test + selection]
    assert len(set(drawn)) == 11 and set(drawn) < {genotype for genotype, _ in ROWS}
    listed = [genotype for genotype, _ in ROWS]
    assert drawn != [genotype for genotype in listed if genotype in drawn]  # shuffled


def test_training_sees_no_cell_of_the_table(made, monkeypatch, in_process):
    real, forbidden_to = ghn_training.sampler, []

    def spy(space, nodes, seed, forbidden, **how):
        forbidden_to.append((nodes, forbidden))
        return real(space, nodes, seed, forbidden, **how)

    for kept in (made.folder / "checkpoints/tiny/ghn").glob("default-1-*"):
        kept.unlink()
    monkeypatch.chdir(made.folder)
    monkeypatch.setattr("ghn_pipeline.training.ghn.sampler", spy)
    in_process("ghn", "default-1", "--config", "params.yaml", *FILES)
    ((nodes, forbidden),) = forbidden_to
    assert nodes == 2  # smaller cells than those that it ranks
    # the twelfth too, which is neither reported nor in the selection
    assert forbidden == {Cell.of_genotype(genotype).hash for genotype, _ in ROWS}


def test_every_method_is_compared_with_the_accuracies_of_the_table(made):
    found = read(made, "benchmark.json")
    assert {"ghn", "ghn-ensemble", "oneshot", "vote", "sgd-2", "parameters", "synflow"} <= set(
        found
    )
    accuracy = dict(ROWS)
    true = [accuracy[cell.genotype] for cell in cells_of(made, "architectures")]
    for method, stage in (("oneshot", "scores/oneshot/0"), ("sgd-2", "scores/sgd")):
        values = read(made, f"{stage}/run.json")["result"]["values"]
        by = "likelihood" if method == "oneshot" else method
        expected = stats.spearmanr(values[by], true).statistic
        assert found[method]["spearman"] == pytest.approx(expected)
    each = [
        read(made, f"scores/ghn/{name}/run.json")["result"]["values"]["likelihood"]
        for name in ("default", "default-1")
    ]
    mean = np.mean([stats.spearmanr(values, true).statistic for values in each])
    assert found["ghn"]["spearman"] == pytest.approx(mean)


def test_the_curve_is_measured_on_the_selection(made):
    run = read(made, "ghn/default/run.json")["result"]
    (measured,) = run["measured"].values()
    assert -1 <= measured["spearman"] <= 1


def test_the_winner_is_ranked_among_the_cells_of_the_table(made):
    found = read(made, "search/random/0/architectures.json")
    assert len(found) == 12  # every cell of the table once
    blocks = Counter(json.dumps(entry["block"]) for entry in found)
    listed = [json.dumps(Cell.of_genotype(genotype).to_json()) for genotype, _ in ROWS]
    assert blocks == Counter(listed)
    best = max(found, key=lambda entry: entry["likelihood"])
    accuracy = ROWS[listed.index(json.dumps(best["block"]))][1]
    rank = 1 + sum(other > accuracy for _, other in ROWS)
    row = (made.folder / "results/tiny/winners.csv").read_text(encoding="utf-8").splitlines()[-1]
    assert row.endswith(f",{accuracy:.2f},{rank},{max(a for _, a in ROWS):.2f}")


def test_record_and_footnotes_say_that_it_is_not_the_whole_table(made):
    import hashlib

    digest = hashlib.sha256((made.folder / "cells.csv").read_bytes()).hexdigest()
    record = read(made, "architectures/run.json")
    assert record["settings"]["benchmark.table"] == digest
    said = f"12 rows, not the whole published table of 1,000, SHA-256 {digest}"
    assert said in record["result"]["published"]
    for name in ("benchmark", "winners"):
        assert said in (made.folder / f"results/tiny/{name}.md").read_text(encoding="utf-8")
    sources = {run["stage"] for run in read(made, "benchmark.provenance.json")["made_of"]}
    assert "architectures" in sources


def test_another_file_makes_all_results_stale(made):
    """The last, because it changes the file."""
    again = ("snakemake", "benchmark", "--dry-run", "--configfile", *FILES)
    (made.folder / "cells.csv").rename(made.folder / "moved.csv")
    elsewhere = {**TINY, "benchmark": {**TINY["benchmark"], "table": "moved.csv"}}
    (made.folder / "tiny.yaml").write_text(yaml.safe_dump(elsewhere), encoding="utf-8")
    done = made.run("ghn", "benchmark", "--config", "params.yaml", *FILES)
    assert done.returncode == 0, done.stderr  # the same bytes are the same table
    (made.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    edges = parsed(ROWS[0][0])
    other = (written([(op, source) for op, source in edges[:6]] + list(edges[:2])), 33.0)
    write_table(made, [other, *ROWS[1:]])
    for words in (("scores", "proxies"), ("ghn", "default"), ("benchmark",)):
        done = made.run("ghn", *words, "--config", "params.yaml", *FILES)
        assert done.returncode == 1
        assert "stale" in done.stderr and "ghn architectures" in done.stderr
    done = made.run(*again)
    assert done.returncode == 0, done.stderr
    for rule in ("architectures", "ghn", "oneshot", "scores", "search", "benchmark"):
        assert f"rule {rule}:" in done.stdout + done.stderr
