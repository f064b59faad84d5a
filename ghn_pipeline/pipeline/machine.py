"""The machine that a configuration asks for."""

import torch

from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import PRESETS_OF
from ghn_pipeline.system.compute import chosen, prepare_process
from ghn_pipeline.system.errors import UserError


def prepare_device(config: Config) -> torch.device:
    """Return the device to work on, this process being prepared (see `prepare_process`).

    Raises:
        UserError: there is no accelerator and the scale needs one, or the device is not there.
    """
    prepare_process(config.compute.threads)
    device = chosen(config.compute.device)
    if device.type == "cpu" and not config.cpu_is_enough:
        first, *others = PRESETS_OF[config.space.name]
        more = "".join(f", or presets/{other}.yaml" for other in others)
        raise UserError(
            f"the scale {config.scale!r} takes weeks without an accelerator; none is used here. "
            f"Choose a preset (snakemake --cores all --configfile presets/{first}.yaml{more}), or "
            "insist: cpu_is_enough: true in the configuration."
        )
    return device
