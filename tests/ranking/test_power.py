"""The numbers that decide an effect, by hand."""

import math

import numpy as np
import pytest

from ghn_pipeline.ranking.intervals import Agreement, Contrast
from ghn_pipeline.ranking.power import Needed, needed


@pytest.mark.parametrize(
    ("effect", "architectures", "expected"),
    [
        # towards zero the interval reaches 0.2, twice the effect: four times as many
        (Contrast(0.1, -0.1, 0.5, 3, 0.2), 100, Needed(400, 3)),
        (Contrast(-0.1, -0.5, 0.1, 3, 0.2), 100, Needed(400, 3)),
        # 100 * (0.15 / 0.1)^2 = 225
        (Contrast(0.1, -0.05, 0.2, 1, 0.0), 100, Needed(230, 1)),
        # most of the width is that of seeds: 3 * 2.25 = 6.75
        (Contrast(0.1, -0.05, 0.2, 3, 0.6), 100, Needed(230, 7)),
        (Contrast(0.2, 0.1, 0.3, 1, 0.0), 24, Needed(6, 1)),  # decided already
        (Contrast(0.1, 0.0, 0.2, 1, 0.0), 1001, Needed(1100, 1)),
        (Contrast(0.1, 0.0, 0.2, 1, 0.0), 99, Needed(99, 1)),
        (Contrast(0.0, -0.1, 0.1, 2, 0.0), 50, Needed(math.inf, 2)),
        (Contrast(0.0, -0.1, 0.1, 2, 0.9), 50, Needed(math.inf, math.inf)),
    ],
)
def test_by_hand(effect, architectures, expected):
    assert needed(effect, architectures) == expected


def test_another_null():
    assert needed(Contrast(0.6, 0.4, 0.7, 1, 0.0), 30, null=0.5) == Needed(120, 1)


def test_without_an_interval_nothing_is_known():
    found = needed(Contrast(0.5, math.nan, math.nan, 1, math.nan), 8)
    assert math.isnan(found.architectures)
    assert found.seeds == 1


def test_so_many_architectures_do_decide():
    """The effect's interval over as many as are said to be needed just leaves out zero."""
    generator = np.random.default_rng(0)
    y = generator.normal(size=60)
    x = [y + generator.normal(size=60), 0.7 * y + generator.normal(size=60)]

    def difference(copies: int) -> Contrast:
        methods = {str(i): [np.tile(of_one, copies)] for i, of_one in enumerate(x)}
        return Agreement(methods, np.tile(y, copies)).contrast({"0": 1, "1": -1}, 0.95)["pearson"]

    few = difference(1)
    assert few.low < 0 < few.high
    copies = needed(few, 60).architectures / 60
    assert 2 < copies < 20
    fewer, more = difference(round(0.8 * copies)), difference(round(1.25 * copies))
    sign = math.copysign(1, few.value)
    assert min(sign * fewer.low, sign * fewer.high) < 0 < min(sign * more.low, sign * more.high)
