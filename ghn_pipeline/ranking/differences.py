"""The size of the differences between the weights of consecutive blocks.

A network repeats one block, and passed embeddings (section 4.3) tell its repetitions apart. If a
GHN gives all of them nearly the same weights, passing embeddings has little to act on.
"""

from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor

from ghn_pipeline.model.network import Network, Spec


def difference_of_blocks(network: Network, weights: Mapping[str, Tensor]) -> float | None:
    """Return the mean of ||w' - w|| / ||w|| over pairs of consecutive searched blocks.

    Two blocks are a pair if they have equal channels. w and w' are the concatenated weights that
    both have in the same shape at the same place within the block. A weight for an incoming edge is
    at the same place if its edge begins at the same node of a module equally far before.

    Args:
        network: the network.
        weights: a tensor for the name of each of `network.specs`.

    Returns:
        The mean. Pairs without such weights, or with ||w|| = 0, are left out; None if no pair is
        left.
    """
    place_of = {module.number: m for m, module in enumerate(network.modules) if module.number}
    held: list[dict[object, Tensor]] = [{} for _ in network.modules]
    for spec in network.specs:
        held[spec.place[0]][_within(spec)] = weights[spec.name].detach()
    found = []
    for i, m in place_of.items():
        after = place_of.get(i + 1)
        if after is None or network.modules[after].channels != network.modules[m].channels:
            continue
        common = [key for key in held[m] if key in held[after]]
        if any(held[m][key].any() for key in common):
            w, next_ = (torch.cat([held[k][key].flatten() for key in common]) for k in (m, after))
            found.append(float((next_ - w).norm() / w.norm()))
    return fmean(found) if found else None


def _within(spec: Spec) -> object:
    """Return the place of a weight within its module, and its shape."""
    _, node, op, branch, *_ = spec.name.split("/")
    edge = spec.reads and (spec.place[0] - spec.reads[0], spec.reads[1])
    return node, op, branch, edge, spec.shape
