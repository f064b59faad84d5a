"""Tables of DARTS cells: what is read, against Python itself, and every fault of a file."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from mutations import THOUSAND, damaged

from ghn_pipeline.data.darts_cells import OPERATIONS, SHA256, SHOWN, parsed, read, written
from ghn_pipeline.system.errors import UserError


def genotype(rng: Random, sums: int = 4) -> str:
    """A random cell, written by Python's own repr of what it is."""
    cell = [(rng.choice(OPERATIONS), rng.randrange(2 + v)) for v in range(sums) for _ in range(2)]
    outputs = list(range(2, 2 + sums))
    return (
        f"Genotype(normal={cell!r}, normal_concat={outputs!r}, "
        f"reduce={cell!r}, reduce_concat={outputs!r})"
    )


def lines_of(rows: int, seed: int = 0) -> list[str]:
    rng = Random(seed)
    return [f'"{genotype(rng)}",{rng.uniform(10, 90)}' for _ in range(rows)]


@pytest.fixture
def table(tmp_path: Path) -> Callable[[list[str]], str]:
    """Write a table, and return its path."""

    def write(lines: list[str]) -> str:
        path = tmp_path / "cells.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def test_rows_are_those_that_python_reads(table: Callable[[list[str]], str]) -> None:
    path = table(lines_of(30))
    found = read(path)
    content = Path(path).read_bytes()
    rows = list(csv.reader(content.decode().splitlines()))
    assert len(found.rows) == len(rows) == 30
    for row, (text, accuracy) in zip(found.rows, rows, strict=True):
        cell = eval(text, {"Genotype": dict})  # of our own writing
        assert list(row.edges) == cell["normal"]
        assert row.accuracy == float(accuracy) / 100
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert not found.whole
    assert found.size == "30 rows, not the whole published table of 1,000"


def test_the_digest_of_the_published_table_typed_a_second_time() -> None:
    assert SHA256 == "d28d263aa7dd4103b6a1da1775b1b03ae16ffd2516409ca3bd493c8784abe6b0"


@pytest.mark.parametrize("sums", [1, 2, 3, 4])
def test_what_was_written_is_read(sums: int) -> None:
    for seed in range(50):
        text = genotype(Random(seed), sums)
        assert written(parsed(text)) == text


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.csv \(benchmark\.table\): No such.*pym1024/SWAP"):
        read(str(tmp_path / "no.csv"))
    with pytest.raises(UserError, match=r"\(benchmark\.table\): Is a directory"):
        read(str(tmp_path))


GOOD = lines_of(1)[0]
EDGES = parsed(GOOD.split('"')[1])
OTHER = lines_of(1, seed=1)[0].split('"')[1]

FAULTS = {
    "not a row": ("hello", "1 values"),
    "a third value": (GOOD + ",1", "3 values"),
    "no row": ("", "0 values"),
    "not a genotype": (f'"{GOOD[10:40]}",50', "not a genotype"),
    "code": ("\"__import__('os').remove('x')\",50", "not a genotype"),
    "text after it": (GOOD.replace(')",', ') ",'), "not a genotype"),
    "another cell for reduction": (
        f'"{written(EDGES).split(", reduce=")[0]}, reduce={OTHER.split(", reduce=")[1]}",50',
        "its reduction cell is not its normal cell",
    ),
    "an unknown operation": (
        GOOD.replace(EDGES[0][0], "sep_conv_7x7"),
        "no operation 'sep_conv_7x7' (did you mean sep_conv_",
    ),
    "a later node": (
        f'"{written([(EDGES[0][0], 2), *EDGES[1:]])}",50',
        "node 2 cannot read node 2",
    ),
    "three sums": (f'"{written(EDGES[:6])}",50', "a cell of 3 sums, not 4"),
    "five sums": (f'"{written([*EDGES, EDGES[0], EDGES[1]])}",50', "1 to 4 sums, not 10"),
    "an odd edge": (f'"{written(EDGES[:7])}",50', "two edges for each of 1 to 4 sums, not 7"),
    "an output is missing": (
        GOOD.replace("[2, 3, 4, 5]", "[2, 3, 4]"),
        "normal_concat must list all sums, [2, 3, 4, 5], not [2, 3, 4]",
    ),
    "no number": (GOOD.split('",')[0] + '",good', "from 0 to 100 percent, not 'good'"),
    "more than all": (GOOD.split('",')[0] + '",100.01', "not '100.01'"),
    "less than none": (GOOD.split('",')[0] + '",-0.5', "not '-0.5'"),
    "no finite number": (GOOD.split('",')[0] + '",nan', "not 'nan'"),
}


@pytest.mark.parametrize(("line", "message"), FAULTS.values(), ids=FAULTS)
def test_a_malformed_row_is_named_by_its_line(
    line: str, message: str, table: Callable[[list[str]], str]
) -> None:
    lines = lines_of(9, seed=2)
    path = table([*lines[:4], line, *lines[4:]])
    with pytest.raises(UserError) as refused:
        read(path)
    first, second, *_ = str(refused.value).splitlines()
    assert first == f"1 fault in the table {path} (benchmark.table):"
    assert second.strip().startswith("line 5: ")
    assert message in second


def test_all_faults_are_said_at_once(table: Callable[[list[str]], str]) -> None:
    lines = lines_of(5)
    path = table([lines[0], "x", *lines[1:], lines[0], lines[2].split('",')[0] + '",200'])
    with pytest.raises(UserError) as refused:
        read(path)
    first, *faults, source = str(refused.value).splitlines()
    assert first.startswith("3 faults in the table")
    assert [fault.strip().split(":")[0] for fault in faults] == ["line 2", "line 7", "line 8"]
    assert faults[1].strip() == "line 7: the cell of line 1 again"
    assert "DARTS_archs_CIFAR10.csv" in source
    with pytest.raises(UserError) as refused:
        read(table(["x"] * 1000))
    shown = str(refused.value).splitlines()
    assert shown[0].startswith("1,000 faults")
    assert len(shown) == 1 + SHOWN + 2
    assert shown[-2].strip() == f"and {1000 - SHOWN} more"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no rows"),
        (f"{GOOD}\n".encode() + b"\xff\xfe", "line 2: not UTF-8"),
        (f'{GOOD}\n"unended'.encode(), "line 2: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_table_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(str(path))


def test_a_thousand_damaged_tables(tmp_path: Path) -> None:
    path = tmp_path / "damaged.csv"

    @THOUSAND
    @given(damaged("\n".join(lines_of(3)).encode()))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = read(str(path))
        except UserError as error:
            assert len(str(error)) < 5000
            assert "benchmark.table" in str(error)
            return
        # whatever is read is a cell of the space, as it stands there
        for row in found.rows:
            assert written(row.edges) in content.decode()
            assert 0 <= row.accuracy <= 1

    holds()
