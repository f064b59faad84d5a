"""The size of the differences between the weights of consecutive blocks.

A network repeats one block, and passed embeddings (section 4.3) tell its repetitions apart. If a
GHN gives all of them nearly the same weights, passing embeddings has little to act on.
"""

import math
from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor

from ghn_pipeline.model.network import Network, Spec


def difference_of_blocks(network: Network, weights: Mapping[str, Tensor]) -> float | None:
    """Return the mean of ||w' - w|| / ||w|| over pairs of consecutive searched blocks.

    w and w' are the concatenated weights that both have at the same place within the block. A
    weight for an incoming edge is at the same place if its edge begins at the same node of a module
    equally far before. Where channels differ, the leading ones that both have are compared, without
    the scale sqrt(2 / fan-in) in which generated weights then differ.

    Args:
        network: the network.
        weights: a tensor for the name of each of `network.specs`.

    Returns:
        The mean. Pairs without such weights, or with ||w|| = 0, are left out; None if no pair is
        left.
    """
    place_of = {module.number: m for m, module in enumerate(network.modules) if module.number}
    held: list[dict[object, Spec]] = [{} for _ in network.modules]
    for spec in network.specs:
        held[spec.place[0]][_within(spec)] = spec
    found = []
    for i, m in place_of.items():
        after = held[place_of[i + 1]] if i + 1 in place_of else {}
        pairs = [(one, after[key]) for key, one in held[m].items() if key in after]
        if not pairs:
            continue
        w = torch.cat([_common(weights, a, b) for a, b in pairs])
        next_ = torch.cat(
            [_common(weights, b, a) * math.sqrt(b.fan_in / a.fan_in) for a, b in pairs]
        )
        if w.any():
            found.append(float((next_ - w).norm() / w.norm()))
    return fmean(found) if found else None


def _common(weights: Mapping[str, Tensor], one: Spec, other: Spec) -> Tensor:
    """Return the numbers of a weight in the channels that another has too."""
    window = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
    return weights[one.name].detach()[window].flatten()


def _within(spec: Spec) -> object:
    """Return the place of a weight within its module."""
    _, node, op, branch, *_ = spec.name.split("/")
    edge = spec.reads and (spec.place[0] - spec.reads[0], spec.reads[1])
    return node, op, branch, edge
