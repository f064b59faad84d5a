"""Zero-cost proxies, which rank networks before any training.

Each is a function of a network, its initial weights and one batch; higher counts as better. The
decorator `proxy` registers it for the scorer, the tables and the vote. As in the comparison by
Abdelfattah et al. (ICLR 2021), sums are over the weights of convolutions and classifier without its
bias, and batch norm takes the statistics of the batch.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ghn_pipeline.model.network import Network, initial, run
from ghn_pipeline.system.registry import Registry

Weights = dict[str, Tensor]
#: A function of a network, its initial weights, images [B, 3, R, R] and labels [B].
Measured = Callable[[Network, Weights, Tensor, Tensor], float]


@dataclass(frozen=True)
class Proxy:
    """A proxy: its function, its name in tables, and whether it takes part in `vote`."""

    of: Measured
    title: str
    votes: bool = False


#: The proxies by their names in records; a file in `extensions` may add its own.
PROXIES: Registry[Proxy] = Registry("proxy")


def proxy(title: str, *, votes: bool = False) -> Callable[[Measured], Measured]:
    """Register a function as a proxy of the same name."""

    def register(measured: Measured) -> Measured:
        PROXIES[measured.__name__] = Proxy(measured, title, votes)
        return measured

    return register


def initial_weights(network: Network, generator: torch.Generator) -> Weights:
    """Draw the initial weights of `Trained`, with gradients enabled."""
    return {spec.name: initial(spec, generator) for spec in network.specs}


@proxy("Parameters")
def parameters(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return the number of trained parameters."""
    return float(network.parameters)


@proxy("Multiply-Adds")
def multiply_adds(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return the multiply-adds for one image, half the FLOPs."""
    return float(network.multiply_adds)


@proxy("Gradient Norm")
def grad_norm(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return the sum of the norms of the loss's gradients (Abdelfattah et al. 2021, 3.2)."""
    return sum(float(g.norm()) for g in _gradients(network, weights, images, labels))


@proxy("SNIP", votes=True)
def snip(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return Σ |w · ∂L/∂w| (SNIP; Lee et al. 2019)."""
    gradients = _gradients(network, weights, images, labels)
    return sum(float((w * g).abs().sum()) for w, g in _pairs(weights, gradients))


@proxy("GraSP")
def grasp(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return Σ -w · Hg, with H the Hessian and g the gradient of the loss (Wang et al. 2020)."""
    gradients = _gradients(network, weights, images, labels, create_graph=True)
    product = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
    second = torch.autograd.grad(product, _kernels(weights))
    return -sum(float((w * h).sum()) for w, h in _pairs(weights, second))


@proxy("Fisher")
def fisher(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return Σ over channels of size · (the mean over images of (Σ a · ∂L/∂a)² / 2).

    The activations a of a channel are the outputs of a convolution or of the classifier (Turner et
    al. 2020). Abdelfattah et al. count a channel once for each weight of its filter, so the size is
    the number of these weights.
    """
    with _Layers() as layers:
        loss = F.cross_entropy(run(network, weights, images), labels)
    gradients = torch.autograd.grad(loss, [a for a, _ in layers.found])
    total = 0.0
    for (a, size), gradient in zip(layers.found, gradients, strict=True):
        # a node with several inputs has a row for each input of each image
        rows = (a * gradient).detach().reshape(*a.shape[:2], -1).sum(2)
        total += size * float(rows.square().sum())
    return total / (2 * len(images))


class _Layers(TorchFunctionMode):
    """Notes, while entered, the output of each convolution and matrix, and its filter's size."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (F.conv2d, F.linear):
            self.found.append((made, math.prod(args[1].shape[1:])))
        return made


@proxy("SynFlow", votes=True)
@torch.enable_grad()
def synflow(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return log10 of Σ w · ∂R/∂w for |w|, R the summed logits of ones (Tanaka et al. 2020).

    Without batch norm the sum has hundreds of digits in a deep network. R is linear in the image,
    so a small image keeps it within range, and the logarithm preserves the ranking. If the logits
    do not depend on the weights, the result is the lowest possible one. The processor computes it,
    because not every accelerator has float64.
    """
    small = 1e-100  # the scale of image and logits, so that neither pass overflows
    positive = {n: w.detach().cpu().abs().double().requires_grad_() for n, w in weights.items()}
    ones = torch.full_like(images[:1], small, dtype=torch.float64, device="cpu")
    total = run(network, positive, ones, norm=lambda _, x: x).sum() * small
    gradients = torch.autograd.grad(total, _kernels(positive))
    flow = sum(float((w * g).sum()) for w, g in _pairs(positive, gradients))
    return math.log10(max(flow, sys.float_info.min)) - 2 * math.log10(small)


@proxy("Jacobian Covariance", votes=True)
def jacob_cov(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Return -Σ log λ + 1/λ of the correlation between images' gradients (Mellor et al. 2020, v1).

    A gradient is that of the summed logits by the image; 1e-5 is added to each eigenvalue λ. If the
    gradient of an image is constant, all correlations count as 1.
    """
    images = images.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(run(network, weights, images).sum(), [images])
    jacobian = gradient.flatten(1).cpu().double().numpy()
    constant = (np.ptp(jacobian, axis=1) == 0).any()
    correlation = np.ones((len(images),) * 2) if constant else np.corrcoef(jacobian)
    eigenvalues = np.linalg.eigvalsh(correlation).clip(0) + 1e-5
    return float(-(np.log(eigenvalues) + 1 / eigenvalues).sum())


def vote(scores: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """Return for each network the number of networks voted below it, less those voted above.

    The majority of synflow, jacob_cov and snip decides which of two networks is better (Abdelfattah
    et al. 2021, 3.3). A proxy that ranks both equally does not vote.
    """
    voters = [scores[name] for name, one in PROXIES.items() if one.votes]
    ballots = [np.sign(np.subtract.outer(of, of)) for of in voters]
    won: NDArray[np.float64] = np.sign(sum(ballots)).sum(axis=1)
    return won


def _gradients(
    network: Network, weights: Weights, images: Tensor, labels: Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(run(network, weights, images), labels)
    return torch.autograd.grad(loss, _kernels(weights), create_graph=create_graph)


def _pairs(weights: Weights, of_each: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(w.detach(), g.detach()) for w, g in zip(_kernels(weights), of_each, strict=True)]


def _kernels(weights: Weights) -> list[Tensor]:
    """Return the weights without biases."""
    return [w for w in weights.values() if w.dim() > 1]
