"""Coefficients and their influences against scipy's, with each group left out in a loop."""

import math

import numpy as np
import pytest
from scipy import stats

from ghn_pipeline.ranking import jackknife
from ghn_pipeline.ranking.correlation import better_half
from ghn_pipeline.ranking.jackknife import coefficients, influences, influences_of_half

SCIPYS = (stats.pearsonr, stats.spearmanr, stats.kendalltau)


def sample(ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two predictions [2, 30], a truth [30], and groups [30] of one to five architectures."""
    generator = np.random.default_rng(1)
    y = generator.normal(size=30)
    x = y + generator.normal(size=(2, 30))
    group = np.unique(generator.integers(14, size=30), return_inverse=True)[1]
    assert np.bincount(group).max() > 2
    return (x.round(), y.round(), group) if ties else (x, y, group)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("block", [1, 500, 100_000])
def test_each_group_is_left_out(ties, block, monkeypatch):
    monkeypatch.setattr(jackknife, "BLOCK", block)
    x, y, group = sample(ties)
    groups = group.max() + 1
    values, shifts = influences(x, y, group)
    assert values == pytest.approx(coefficients(x, y))
    for i, function in enumerate(SCIPYS):
        # sums of squares: the jackknife's (G - 1) / G Σ shift², for pairs ((G - 2) / G)² Σ shift²
        scale = 1 if i == 0 else (groups - 2) / math.sqrt(groups * (groups - 1))
        for p in range(2):
            value = function(x[p], y).statistic
            assert values[i, p] == pytest.approx(value)
            for g in range(groups):
                rest = group != g
                shift = function(x[p][rest], y[rest]).statistic - value
                assert shifts[i, p, g] == pytest.approx(scale * shift)


def test_the_better_half_takes_in_what_stands_at_the_threshold():
    x, y, group = sample(ties=False)
    values, shifts = influences_of_half(x, y, group)
    half, best = better_half(y), np.argsort(-y)
    _, inside = np.unique(group[half], return_inverse=True)
    own = influences(x[:, half], y[half], inside)[1]
    for i, function in enumerate(SCIPYS):
        for p in range(2):
            assert values[i, p] == pytest.approx(function(x[p][half], y[half]).statistic)
            # 15 in the half, a quarter of them are 3
            larger, smaller = (function(x[p][best[:k]], y[best[:k]]).statistic for k in (18, 12))
            for g in range(group.max() + 1):
                expected = (sum(group[half] == g) - sum(group == g) / 2) * (larger - smaller) / 6
                if g in group[half]:
                    expected += own[i, p, list(np.unique(group[half])).index(g)]
                assert shifts[i, p, g] == pytest.approx(expected)


def test_constants_have_no_coefficient():
    values, shifts = influences(np.ones((1, 5)), np.arange(5.0), np.arange(5))
    assert np.isnan(values).all()
    assert np.isnan(shifts).all()
