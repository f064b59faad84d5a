"""The paper's claims: what tests each, what was found, and the verdict."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from ghn_pipeline.ranking.correlation import Estimate
from ghn_pipeline.report.correlations import NONE
from ghn_pipeline.report.table import Table

Verdict = Literal["supported", "contradicted", "undecided", "not run"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and the effect that tests it; claims.yaml explains the attributes."""

    number: int
    claim: str
    place: str
    effect: str
    unit: Literal["R", "ratio", "points"]
    paper: float | None
    null: float
    sign: Literal[1, -1]


@dataclass(frozen=True)
class Finding:
    """One measurement of an effect.

    Attributes:
        claim: number of the claim.
        value, low, high: the effect and its interval; the ends are NaN if it has none.
        scale: name of the scale.
        truth: what predictions were held against, in words.
        by: what else tells it from other findings of this claim at this scale, such as the measure.
        fair: what differs between the compared, "" if nothing does.
        more: what would decide it, such as '340 architectures', if the interval holds the null.
        exact: whether the effect is counted, so that it needs no interval.
        main: whether the verdict on the claim at this scale rests on it; others stand beside it.
    """

    claim: int
    value: float
    low: float
    high: float
    scale: str
    truth: str
    by: str = ""
    fair: str = ""
    more: str = ""
    exact: bool = False
    main: bool = True

    @property
    def verdict(self) -> Verdict:
        """The verdict: the claim is decided if the interval leaves out the null."""
        of = claims()[self.claim]
        low, high = (self.value, self.value) if self.exact else (self.low, self.high)
        if low > of.null or high < of.null:
            return "supported" if (low > of.null) == (of.sign > 0) else "contradicted"
        return "undecided"


@lru_cache(maxsize=1)
def claims() -> Mapping[int, Claim]:
    """Return the claims by their numbers."""
    text = (files("ghn_pipeline") / "report/paper/claims.yaml").read_text(encoding="utf-8")
    return {number: Claim(number, **entry) for number, entry in yaml.safe_load(text).items()}


def found(claim: int, estimate: Estimate, scale: str, truth: str, **more: Any) -> Finding:
    """Return the finding of an estimate; `more` are further attributes of `Finding`."""
    return Finding(claim, estimate.value, estimate.low, estimate.high, scale, truth, **more)


def to_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain data, numbers with six digits and None for NaN."""
    return [
        {
            key: (None if math.isnan(value) else float(f"{value:.6g}"))
            if isinstance(value, float)
            else value
            for key, value in asdict(one).items()
        }
        for one in findings
    ]


def from_json(entries: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return the findings that `to_json` wrote."""
    whole: list[dict[str, Any]] = [
        {key: math.nan if value is None else value for key, value in entry.items()}
        for entry in entries
    ]
    return [Finding(**entry) for entry in whole]


def verdicts(findings: Sequence[Finding]) -> dict[int, list[Finding]]:
    """Return the main findings of each claim, [] for claims that no scale has tested."""
    return {
        number: [one for one in findings if one.claim == number and one.main] for number in claims()
    }


def claims_table(findings: Sequence[Finding], older: Mapping[str, str]) -> Table:
    """Return the page's table: every claim, with every finding in a row of its own.

    Args:
        findings: the findings of one or more scales.
        older: for scales whose evidence is of older code, a remark on it.
    """
    rows = []
    for number, claim in claims().items():
        own = sorted((f for f in findings if f.claim == number), key=lambda f: not f.main)
        head = (str(number), claim.claim, claim.place)
        if not own:
            rows.append((*head, claim.effect, NONE, _number(claim.paper), "not run", *[NONE] * 4))
        for one in own:
            effect = f"{claim.effect}, {one.by}" if one.by else claim.effect
            scale = f"{one.scale} ({older[one.scale]})" if one.scale in older else one.scale
            verdict = one.verdict if one.main else f"({one.verdict})"
            rest = (scale, one.truth, one.fair or "nothing", one.more or NONE)
            rows.append((*head, effect, shown(one), _number(claim.paper), verdict, *rest))
    headings = (
        *("Claim", "", "Place in the paper", "Effect", "Found [95% interval]", "Paper"),
        *("Verdict", "Scale", "Truth", "What differs", "What would decide it"),
    )
    return Table(
        title=f"The paper's claims: {counted(findings)}",
        columns=tuple(("", heading) for heading in headings),
        rows=tuple(rows),
        footnotes=(
            "Supported or contradicted: the 95% interval of the effect leaves out the null, on the "
            "claim's side or on the other. Undecided: it does not. In brackets: an effect beside "
            "the one that the verdict rests on.",
        ),
    )


def counted(findings: Sequence[Finding]) -> str:
    """Return how many claims have which verdict at one scale at the least."""
    of = verdicts(findings)
    decided = [
        n for n, own in of.items() if any(f.verdict in ("supported", "contradicted") for f in own)
    ]
    said = []
    for verdict in ("supported", "contradicted"):
        count = sum(any(f.verdict == verdict for f in own) for own in of.values())
        said.append(f"{count} {verdict}")
    return f"{len(decided)} of {len(of)} decided at one scale at the least ({', '.join(said)})"


def shown(one: Finding) -> str:
    """Return an effect with its interval: '0.31 [0.12, 0.48]', '1.04 [0.9, 1.2]'."""
    numbers = [one.value] if one.exact or math.isnan(one.low) else [one.value, one.low, one.high]
    said = [_number(number) for number in numbers]
    return said[0] if len(said) == 1 else f"{said[0]} [{said[1]}, {said[2]}]"


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}".rstrip("0").rstrip(".")
