"""Which settings each stage depends on, and where its results stand.

One definition for the checkpoints, the records, the check for stale results and the engines.
"""

from pathlib import Path
from typing import Any

from ghn_pipeline.config import Config
from ghn_pipeline.errors import UserError
from ghn_pipeline.files import digest


def settings(config: Config, stage: str) -> dict[str, Any]:
    """Return all settings that change the result of `stage`, those of earlier stages included.

    Args:
        config: of the scale.
        stage: "architectures", "ghn/NAME", "oneshot", "sgd/INDEX", "scores/ghn/NAME",
            "scores/oneshot", "finalists/RANK", or "table4".

    Raises:
        UserError: there is no such stage.
    """
    c, kind = config.model_dump(exclude_none=True), stage.split("/")[0]
    seeds = c["seeds"]
    architectures = {
        "method": c["method"],
        "space": c["space"],
        "architectures": c["correlation"]["architectures"],
        "test_architectures": seeds["test_architectures"],
    }
    training = {
        **architectures,
        "images": c["images"],
        "network": c["network"],
        **{key: seeds[key] for key in ("split", "data_order", "initialisation")},
    }
    searching = {**training, "training_architectures": seeds["training_architectures"]}
    if kind == "architectures":
        return architectures
    if kind == "ghn":
        return {**searching, "ghn": config.named_ghn(stage.removeprefix("ghn/")).model_dump()}
    if kind == "oneshot":
        return {**searching, "oneshot": c["oneshot"]}
    if kind == "sgd":
        judged = {key: c["evaluation"][key] for key in ("batch", "batches")}
        stopped = {"steps": c["correlation"]["steps"], "evaluation": judged}
        return {**training, "sgd": c["sgd"], **stopped}
    if kind == "scores":
        return {**settings(config, stage.removeprefix("scores/")), "evaluation": c["evaluation"]}
    if kind == "table4":
        parts = ("sgd/0", "scores/oneshot", f"scores/{first_ghn(config)}")
        below = {part: digest(settings(config, part)) for part in parts}
        shown = {key: c[key] for key in ("scale", "correlation", "tables")}
        shown["correlation"].pop("ghns")  # the first is in `below`, the others in no table yet
        return {**below, **shown, "bootstrap": seeds["bootstrap"]}
    if kind == "finalists":
        # how many nodes the workers are spread over changes nothing
        chosen = {
            key: c["finalists"][key] for key in c["finalists"] if key not in ("ranks", "nodes")
        }
        scored = digest(settings(config, f"scores/{first_ghn(config)}"))
        return {**training, "finalists": chosen, "scores": scored}
    raise UserError(f"there is no stage {stage!r}")


def first_ghn(config: Config) -> str:
    """Return the stage of the GHN that Table 4 shows and that chooses the finalists."""
    return f"ghn/{config.correlation.ghns[0]}"


def result_folder(config: Config, stage: str) -> Path:
    """Return the folder of a stage's results, below the working directory."""
    return Path("results", config.scale, stage)


def log_file(config: Config, stage: str) -> Path:
    """Return the file in which all that a stage said is kept.

    Raises:
        UserError: there is no such stage.
    """
    if stage != "prepare_data":
        settings(config, stage)  # a name that is no stage's could be any path
    return Path("results", config.scale, "logs", f"{stage}.log")


def checkpoint_file(config: Config, stage: str, suffix: str = ".pt") -> Path:
    """Return the file from which a stopped stage goes on.

    It lies outside `results`, for a workflow engine deletes the outputs of a job that failed. The
    settings' digest is in its name: changed settings start anew, and changed back they go on.
    """
    return Path("checkpoints", config.scale, f"{stage}-{digest(settings(config, stage))}{suffix}")
