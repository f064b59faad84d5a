"""The truth, and the predictions of every method for the same architectures, from the records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ghn_pipeline.pipeline import record
from ghn_pipeline.pipeline.results import accuracies, architectures_of, scored_with, truths
from ghn_pipeline.pipeline.stage import command
from ghn_pipeline.ranking.benchmark import truth
from ghn_pipeline.ranking.methods import Comparison, Key, Method
from ghn_pipeline.report.correlations import MEASURED
from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import Schedule
from ghn_pipeline.system.errors import UserError


class Rankings:
    """The truth of a configuration, and the predictions of methods for the same architectures.

    The truth is published, or else the accuracy on the test images after training by SGD.

    Args:
        config: the configuration.

    Attributes:
        truth: true accuracies [n] of the first test architectures.
        hashes: their hashes; equal ones compute the same function.
        truth_in_words: the truth in words.
        trainings: the records of the trainings that the truth is of, [] if it is published.
        made_of: the records that were read so far.

    Raises:
        UserError: the truth is missing or stale.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        if published := config.space.published(config.benchmark.table):
            blocks = architectures_of(config)
            self.trainings: list[dict[str, Any]] = []
            self.made_of = [record.read(config, "architectures")]
            self.hashes = [block.hash for block in blocks]
            self.truth = truth(published, blocks, published.first)
            self.truth_in_words = f"{len(blocks):,} cells of {published.title}, as published"
        else:
            self.trainings = truths(config)
            self.made_of = list(self.trainings)
            self.hashes = [run["result"]["hash"] for run in self.trainings]
            self.truth = accuracies(self.trainings, "test")
            of = f"{len(self.truth)} architectures"
            self.truth_in_words = f"{of} after {self.steps:,} steps of SGD, test images"

    @property
    def steps(self) -> int:
        """The steps of each of the trainings that the truth is of."""
        return int(self.trainings[0]["result"]["steps"])

    def compare(self, methods: Mapping[Key, Method]) -> Comparison[Key]:
        """Return the comparison of methods with the truth."""
        return Comparison(methods, self.truth, self.config.correlation.confidence, self.hashes)

    def ghns(self, entry: str) -> dict[str, Method]:
        """Return the GHNs of an entry of `ghns`, one of each seed, by each measure.

        Raises:
            UserError: a stage is missing or stale, or scored other architectures.
        """
        stages = [f"ghn/{name}" for name in self.config.seeds_of(entry)]
        return self._trained(stages, self.config.ghns[entry])

    def oneshots(self) -> dict[str, Method]:
        """Return the one-shot models, one of each seed, by each measure.

        Raises:
            UserError: as `ghns` raises it.
        """
        stages = [f"oneshot/{seed}" for seed in self.config.oneshots]
        return self._trained(stages, self.config.oneshot)

    def models(self, main: str) -> dict[str, Method]:
        """Return the one-shot model and the first GHN as rows of a table.

        By the measure `main` their keys are 'ghn' and 'oneshot', by another one 'KEY/MEASURE'.

        Raises:
            UserError: as `ghns` raises it.
        """
        first = self.config.correlation.ghns[0]
        return {
            key if by == main else f"{key}/{by}": method
            for key, of in (("oneshot", self.oneshots()), ("ghn", self.ghns(first)))
            for by, method in of.items()
        }

    def each_seconds(self) -> list[float]:
        """Return the seconds to score an architecture by each seed of the first GHN."""
        return [self._each(f"ghn/{name}") for name in self.config.first_ghns]

    def costs(self, evaluations: int) -> dict[int, tuple[list[float], list[float]]]:
        """Return the seconds of GHN and one-shot model, of each seed, for claims 7 and 15.

        Args:
            evaluations: the architectures that a search scores.
        """
        ghns = [f"ghn/{name}" for name in self.config.first_ghns]
        oneshots = [f"oneshot/{seed}" for seed in self.config.oneshots]
        training, search = (
            tuple(
                [
                    record.read(self.config, stage)["accelerator_seconds"]
                    + count * self._each(stage)
                    for stage in stages
                ]
                for stages in (ghns, oneshots)
            )
            for count in (0, evaluations)
        )
        return {7: (training[0], training[1]), 15: (search[0], search[1])}

    def _each(self, stage: str) -> float:
        return float(self._scored(stage)["result"]["seconds_each"]["accuracy"])

    def block_difference(self, entry: str) -> float | None:
        """Return how much weights of consecutive blocks differ, in the mean over the seeds.

        None if no network has weights in consecutive blocks.

        Raises:
            UserError: as `ghns` raises it.
        """
        stages = [f"ghn/{name}" for name in self.config.seeds_of(entry)]
        found = [self._scored(stage)["result"]["block_difference"] for stage in stages]
        return None if None in found else float(np.mean(found))

    def untrained(self, model: str) -> dict[str, Method]:
        """Return the methods of "proxies" or "sgd", by their names.

        Raises:
            UserError: as `ghns` raises it.
        """
        scored = self._scored(model)
        given = {
            "proxies": f"initial weights, {self.config.proxies.batch} images",
            "sgd": f"steps of {self.config.sgd.batch} images, a seed of its own",
        }[model]
        return {
            name: Method(
                (np.array(values[: len(self.hashes)]),),
                None,
                scored["result"]["seconds_each"][name],
                f"{name.removeprefix('sgd-')} {given}" if model == "sgd" else given,
            )
            for name, values in scored["result"]["values"].items()
        }

    def _trained(self, stages: Sequence[str], schedule: Schedule) -> dict[str, Method]:
        trained = [record.read(self.config, stage) for stage in stages]
        scored = [self._scored(stage) for stage in stages]
        self.made_of += trained
        initial = float(np.mean([run["accelerator_seconds"] for run in trained]))
        each = float(np.mean([run["result"]["seconds_each"]["accuracy"] for run in scored]))
        first = self.config.ghns[self.config.correlation.ghns[0]]
        given = _given(schedule, first, self.config.images.train)
        return {
            measure: Method(
                tuple(np.array(r["result"]["values"][measure][: len(self.hashes)]) for r in scored),
                initial,
                each,
                given,
                self.config.correlation.selection,
            )
            for measure in MEASURED
            if measure in scored[0]["result"]["values"]
        }

    def _scored(self, model: str) -> dict[str, Any]:
        stage = f"scores/{model}"
        scored = scored_with(self.config, stage, model)
        if scored["result"]["hashes"][: len(self.hashes)] != self.hashes:
            raise UserError(
                f"{stage} is of other architectures than the ground truth. Run `{command(stage)}`, "
                "and the `ghn sgd` of those that differ, again."
            )
        if scored not in self.made_of:
            self.made_of.append(scored)
        return scored


def _given(one: Schedule, first: Schedule, images: int) -> str:
    """Return what a training was given, in full for the first GHN, and else what differs."""
    if one is first:
        steps = one.epochs * (images // one.batch)
        aids = {
            "operations weighted": one.operation_weights,
            f"warm-up of {one.warmup} steps": one.warmup,
            f"running mean {one.average:g}": one.average,
        }
        halved = f" halved at {one.halve_at}" if one.halve_at else ""
        return ", ".join(
            [
                f"{steps:,} steps of {one.batch} images",
                f"rate {one.learning_rate:g}{halved}",
                *(aid for aid, there in aids.items() if there),
            ]
        )
    other = [
        f"{key} {getattr(one, key)}"
        for key in Schedule.model_fields
        if getattr(one, key) != getattr(first, key)
    ]
    return f"as the GHN, except {', '.join(other)}" if other else "as the GHN"
