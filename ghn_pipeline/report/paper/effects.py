"""The effects that test the paper's claims, from the rankings and costs of one scale."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ghn_pipeline.ranking.correlation import Estimate, Floats
from ghn_pipeline.ranking.intervals import Contrast, difference_of_means
from ghn_pipeline.ranking.methods import Comparison, Method
from ghn_pipeline.ranking.power import needed
from ghn_pipeline.report.correlations import GHN
from ghn_pipeline.report.paper.claims import Finding, claims, found

#: The name of the one-shot model.
ONESHOT = "oneshot"
#: 1,000 of the steps that the paper's ground truth takes in 50 epochs (5.3, 7.3).
SHARE_OF_SGD = 1000 / (50 * (45_000 // 64))


@dataclass(frozen=True)
class Scale:
    """The methods and the truth of one scale.

    Attributes:
        name: name of the scale.
        truth: the truth in words.
        measure: the measure that the scale ranks by, on which verdicts rest.
        comparison: the methods by their name and the measure that they rank by.
        coefficient: the coefficient on which verdicts rest: "pearson", the paper's R, or "spearman"
            where a few architectures that never learn would decide the paper's.
    """

    name: str
    truth: str
    measure: str
    comparison: Comparison[tuple[str, str]]
    coefficient: str = "pearson"

    def compare(
        self,
        claim: int,
        weights: Mapping[str, float],
        over: str = "all",
        *,
        by: str = "",
        main: bool = True,
        measure: str = "",
    ) -> list[Finding]:
        """Return a weighted sum of the correlations of methods, by each measure that all have.

        By the main measure, Pearson's R always stands among them.

        Args:
            claim: number of the claim.
            weights: weights by the names of methods.
            over: 'all' or 'better_half'.
            by: what else tells the effect from others of this claim.
            main: whether the verdict rests on this effect.
            measure: the measure on which it rests, if not the scale's.
        """
        shared = [
            measure
            for name, measure in self.comparison.methods
            if name == next(iter(weights))
            and all((other, measure) in self.comparison.methods for other in weights)
        ]
        return [
            self._finding(claim, weights, over, one, coefficient, by, rests)
            for one in shared
            for rests, coefficient in self._coefficients(main and one == (measure or self.measure))
        ]

    def _coefficients(self, main: bool) -> list[tuple[bool, str]]:
        """Return the coefficients that are shown, and whether the verdict rests on each."""
        others = [(False, "pearson")] if main and self.coefficient != "pearson" else []
        return [(main, self.coefficient), *others]

    def _finding(
        self,
        claim: int,
        weights: Mapping[str, float],
        over: str,
        measure: str,
        coefficient: str,
        by: str,
        main: bool,
    ) -> Finding:
        keys = {(name, measure): weight for name, weight in weights.items()}
        estimate = self.comparison.contrast(keys)[over][coefficient]
        said = "" if self.coefficient == "pearson" else f"{coefficient.capitalize()}'s coefficient"
        return found(
            claim,
            estimate,
            self.name,
            self.truth,
            by=", ".join(filter(None, [by, f"by {measure}", said])),
            fair=differs([self.comparison.methods[key] for key in keys]),
            more=decided_by(claim, estimate, len(self.comparison.truth)),
            main=main,
        )


def differs(methods: Sequence[Method]) -> str:
    """Return in what methods differ that the comparison is not about, "" for nothing."""
    seeds = sorted({len(method.predictions) for method in methods})
    said = [f"seeds: {' and '.join(map(str, seeds))}"] if len(seeds) > 1 else []
    return "; ".join(
        said + sorted({m.given for m in methods if m.given.startswith("as the GHN, ")})
    )


def decided_by(claim: int, estimate: Estimate, architectures: int) -> str:
    """Return what would decide an undecided claim, "" if it is decided or nothing is known."""
    null = claims()[claim].null
    if not (isinstance(estimate, Contrast) and estimate.low <= null <= estimate.high):
        return ""
    more = needed(estimate, architectures, null)
    said = [f"{more.architectures:,.0f} architectures"] if math.isfinite(more.architectures) else []
    if more.seeds > estimate.seeds:
        said = [f"{more.seeds:,.0f} seeds"]
    return "".join(said)


def of_rankings(scale: Scale) -> list[Finding]:
    """Return the effects of claims 1, 2 and 3."""
    ahead = {GHN: 1, ONESHOT: -1}
    return [
        *scale.compare(1, {GHN: 1}),
        *scale.compare(1, {GHN: 1}, "better_half", by="better half", main=False),
        *scale.compare(2, ahead),
        *scale.compare(3, ahead, "better_half"),
    ]


def of_early_sgd(scale: Scale, sgd: Mapping[int, str], steps: int) -> list[Finding]:
    """Return the effects of claims 4 and 5, all by accuracy.

    Args:
        scale: the scale.
        sgd: the names of SGD that stops early, by its number of steps.
        steps: the steps of the truth.
    """
    nearest = min(sgd, key=lambda k: float(abs(np.log(k / steps / SHARE_OF_SGD))))
    of_half = {
        k: scale.compare(5, {GHN: 1, name: -1}, "better_half", by=f"{k} steps", measure="accuracy")
        for k, name in sgd.items()
    }
    least = min((one for (one,) in of_half.values()), key=lambda one: one.value)
    return [
        *(
            one
            for k, name in sgd.items()
            for one in scale.compare(
                4,
                {name: 1, GHN: -1},
                by=f"{k} of {steps:,} steps",
                main=k == nearest,
                measure="accuracy",
            )
        ),
        *(replace(one, main=one is least) for (one,) in of_half.values()),
    ]


def of_costs(
    scale: Scale, measured: Mapping[int, tuple[Sequence[float], Sequence[float]]]
) -> list[Finding]:
    """Return the effects of claims about ratios of costs, with Welch's interval of logarithms.

    Args:
        scale: the scale.
        measured: by claim, the seconds of both sides, several measurements of each.
    """
    findings = []
    for claim, (a, b) in measured.items():
        logs = difference_of_means(np.log(a), np.log(b), scale.comparison.confidence)
        ratio = Estimate(*(float(np.exp(end)) for end in (logs.value, logs.low, logs.high)))
        findings.append(found(claim, ratio, scale.name, "seconds on this machine"))
    return findings


def of_nodes(scale: Scale, levels: Mapping[int, str], judged: int) -> list[Finding]:
    """Return the effects of claims 8 and 9.

    Args:
        scale: the scale.
        levels: the names of GHNs by their nodes in training.
        judged: the nodes of the blocks that they rank.
    """
    findings = []
    if len(levels) > 1:
        fall = [-weight for weight in rise(levels)]
        findings += scale.compare(8, dict(zip(levels.values(), fall, strict=True)))
    if levels and (fewest := min(levels)) < judged:
        by = f"{fewest} nodes in training, {judged} judged"
        findings += scale.compare(9, {levels[fewest]: 1}, by=by)
    return findings


def of_propagation(scale: Scale, levels: Mapping[tuple[str, int], str]) -> list[Finding]:
    """Return the effects of claims 10 and 11 from the names of GHNs by (scheme, passes)."""
    forth = {t: of for (scheme, t), of in sorted(levels.items()) if scheme == "forward-backward"}
    synchronous = {t: of for (scheme, t), of in levels.items() if scheme == "synchronous"}
    both = [t for t in forth if t in synchronous]
    findings: list[Finding] = []
    if both:
        share = 1 / len(both)
        ahead = {forth[t]: share for t in both} | {synchronous[t]: -share for t in both}
        findings += scale.compare(10, ahead)
        for t in both:
            pair = {forth[t]: 1, synchronous[t]: -1}
            findings += scale.compare(10, pair, by=f"T={t}", main=False)
    if len(forth) > 1:
        findings += scale.compare(11, dict(zip(forth.values(), rise(forth), strict=True)))
    if len(forth) == 3 and len({*np.diff(list(forth))}) == 1:
        less = dict(zip(forth.values(), (-1, 2, -1), strict=True))
        findings += scale.compare(11, less, by="less and less: fall of the slope", main=False)
    return findings


def of_stacking(scale: Scale, rows: Mapping[tuple[bool, bool], str]) -> list[Finding]:
    """Return the effects of claims 12 and 13 from names by (SP, PE) of Table 5."""
    steps = {12: ((False, True), (False, False)), 13: ((True, True), (False, True))}
    return [
        one
        for claim, (after, before) in steps.items()
        if after in rows and before in rows
        for one in scale.compare(claim, {rows[after]: 1, rows[before]: -1})
    ]


def of_search(top: Floats, random: Floats, confidence: float, **named: Any) -> Finding:
    """Return the effect of claim 14 from accuracies [m] and [k], as fractions, by Welch's t.

    Args:
        top: accuracies of the search's best.
        random: accuracies of random architectures.
        confidence: level of the interval.
        named: scale, truth and further attributes of the finding.
    """
    return found(14, difference_of_means(100 * top, 100 * random, confidence), **named)


def rise(levels: Iterable[int]) -> list[float]:
    """Return the weights that make the rise from the lowest to the highest of these levels.

    The weighted sum of values at the levels is the rise of the least-squares line through them.
    """
    x = np.array(list(levels), dtype=float)
    centred = x - x.mean()
    return [float(weight) for weight in np.ptp(x) * centred / (centred**2).sum()]
