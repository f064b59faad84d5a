"""Scoring for the stages that rank architectures: the scores of the test set, and the searches."""

from functools import partial
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline.stage import checkpoint_file, command, settings
from ghn_pipeline.system.files import digest

if TYPE_CHECKING:
    from ghn_pipeline.ranking.scoring import Scored, Strategy
    from ghn_pipeline.settings.config import Config


def score(
    config: "Config", name: str, model: str, propose: "Strategy", count: int
) -> "list[Scored]":
    """Score a strategy's proposals by a trained model or a baseline; resume after a kill.

    Raises:
        UserError: the model is missing or stale, or `scoring.score` raises it.
    """

    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.build import scorer_of
    from ghn_pipeline.pipeline.machine import prepare_device
    from ghn_pipeline.pipeline.results import weights_of
    from ghn_pipeline.ranking import scoring
    from ghn_pipeline.system.compute import devices

    device, weights = prepare_device(config), weights_of(config, model)
    if weights:
        record.read(config, model)
    return scoring.score(
        name,
        propose,
        count,
        partial(scorer_of, config, model),
        devices=devices(device, config.compute.workers),
        together=config.evaluation.together,
        partial=checkpoint_file(config, name, ".json", of=weights[:16]),
        digest=digest([settings(config, name), weights]),
        made_by=command(name),
        log_seconds=config.compute.log_seconds,
    )


def publish(
    config: "Config",
    name: str,
    model: str,
    found: "list[Scored]",
    result: dict[str, Any],
    outputs: list[str],
) -> None:
    """Write the record of a scoring stage beside its outputs."""
    from ghn_pipeline.pipeline import record
    from ghn_pipeline.pipeline.machine import hardware, prepare_device
    from ghn_pipeline.pipeline.results import weights_of

    seconds = {name: sum(s.score.seconds[name] for s in found) for name in found[0].score.seconds}
    weights = weights_of(config, model)
    record.write(
        config,
        name,
        {**result, "seconds_each": {name: s / len(found) for name, s in seconds.items()}},
        seconds=sum(seconds.values()),
        outputs=outputs,
        hardware=hardware(prepare_device(config)),
        inputs={"model.pt": weights} if weights else {},
    )
