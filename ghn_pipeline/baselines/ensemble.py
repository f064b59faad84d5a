"""Ensembles of networks that run one after another (Huang et al., 2018, section 5.1)."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.baselines.exits import MultiExit


class Ensemble(MultiExit):
    """Networks that vote, with an exit after each of them.

    In evaluation an exit gives the logarithm of the mean of the members' probabilities so far,
    which serves as logits for accuracy and cross-entropy. In training it gives the logits of one
    member, so that the sum of the exits' losses trains each member by itself.

    Args:
        members: networks from images to logits [B, classes], in the order in which they run, the
            cheapest first.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits of each exit; see `MultiExit.exits`."""
        total: Tensor | None = None  # log of the sum of probabilities
        for count, member in enumerate(self.members, 1):
            logits: Tensor = member(images)
            if self.training:
                yield logits
                continue
            own = F.log_softmax(logits, dim=1)
            total = own if total is None else torch.logaddexp(total, own)
            yield total - math.log(count)
