"""The paper's tables, typed a second time from the paper."""

import pytest

from ghn_pipeline.report.paper.numbers import table


def column(name: str, key: str) -> list[object]:
    return [row[key] for row in table(name)["rows"].values()]


def test_table_4():
    expected = {
        "sgd-10": ("SGD 10 Steps", None, 0.9, 0.26, -0.05),
        "sgd-100": ("SGD 100 Steps", None, 9, 0.59, 0.06),
        "sgd-200": ("SGD 200 Steps", None, 18, 0.62, 0.20),
        "sgd-1000": ("SGD 1000 Steps", None, 90, 0.77, 0.26),
        "oneshot": ("One-Shot", 9.8, 0.06, 0.58, 0.31),
        "ghn": ("GHN", 6.1, 0.08, 0.68, 0.48),
    }
    rows = table("table4")["rows"]
    assert list(rows) == list(expected)
    keys = ["method", "initial", "per_architecture", "random", "top"]
    for name, values in expected.items():
        assert rows[name] == dict(zip(keys, values, strict=True))


def test_table_5():
    rows = [tuple(row.values()) for row in table("table5")["rows"].values()]
    assert rows == [(False, False, 0.24, 0.15), (False, True, 0.44, 0.37), (True, True, 0.68, 0.48)]


def test_table_1():
    assert column("table1", "search_cost") == [None, 3, 4, 4, None, 0.42]
    assert column("table1", "params") == [4.6, 16.0, 2.7, 10.4, 4.6, 5.1]
    assert column("table1", "params_sd") == [None, None, 0.3, 1.0, 0.6, 0.6]
    assert column("table1", "accuracy") == [94.5, 96.0, 95.5, 95.9, 94.6, 95.7]
    assert column("table1", "accuracy_sd") == [None, None, 0.1, 0.2, 0.3, 0.1]


def test_table_2():
    assert column("table2", "search_cost") == [1800, 0.45, 1.5, 4, 0.84]
    assert column("table2", "params") == [3.3, 4.6, 2.9, 3.4, 5.7]
    assert column("table2", "accuracy") == [97.35, 97.11, 97.06, 97.17, 97.16]
    assert column("table2", "accuracy_sd") == [None, None, None, 0.06, 0.07]


def test_table_3():
    assert column("table3", "search_cost") == [1800, 1800, 3150, 3150, 225, 4, 0.84]
    assert column("table3", "params") == [5.3, 4.9, 5.1, 6.4, 5.1, 4.9, 6.1]
    assert column("table3", "flops") == [564, 558, 555, 570, 588, 595, 569]
    assert column("table3", "top1") == [74.0, 72.5, 74.5, 75.7, 74.2, 73.1, 73.0]
    assert column("table3", "top5") == [91.6, 91.0, 92.0, 92.4, 91.9, 91.0, 91.3]


@pytest.mark.parametrize("number", range(1, 6))
def test_every_table_has_its_place_and_a_unit_for_every_number(number):
    found = table(f"table{number}")
    assert found["place"].startswith(f"Table {number}, section 5.")
    for row in found["rows"].values():
        numbers = {
            key.removesuffix("_sd")
            for key, value in row.items()
            if not isinstance(value, (str, bool))
        }
        assert numbers == found["units"].keys()


def test_tables_4_and_5_agree_on_the_ghn_of_the_paper():
    ghn, stacked = table("table4")["rows"]["ghn"], table("table5")["rows"]["stacked-shared"]
    assert (ghn["random"], ghn["top"]) == (stacked["random"], stacked["top"])


def test_an_unknown_table_is_refused():
    with pytest.raises(KeyError):
        table("table6")
