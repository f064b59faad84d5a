"""The device that a configuration asks for, and its description."""

import torch

from ghn_pipeline.model.compiled import engine
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system import compute
from ghn_pipeline.system.compute import chosen, prepare_process
from ghn_pipeline.system.errors import UserError


def prepare_device(config: Config) -> torch.device:
    """Prepare this process (see `prepare_process`) and return the device to work on.

    Raises:
        UserError: the scale needs an accelerator and there is none, or the device is missing.
    """
    prepare_process(config.compute.threads)
    device = chosen(config.compute.device)
    if device.type == "cpu" and not config.cpu_is_enough:
        presets = ", or ".join(f"presets/{preset}.yaml" for preset in config.space.presets)
        choose = f"Choose a preset (snakemake --cores all --configfile {presets}), or set"
        raise UserError(
            f"the scale {config.scale!r} takes weeks without an accelerator; none is used here. "
            f"{choose if presets else 'Set'} cpu_is_enough: true in the configuration."
        )
    return device


def hardware(device: torch.device) -> dict[str, str | int]:
    """Return a description of the machine for the record of a run.

    "propagation" is the engine that propagates embeddings there (see `compiled.engine`): another
    one differs in the last bits.
    """
    return {**compute.hardware(device), "propagation": engine(device, torch.float32)}
