"""The program for GPUs against the one for processors; without a GPU Triton interprets it."""

import os

import pytest
import torch
from test_compiled import SCHEMES, STACKINGS, alone, arguments
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton")

from ghn_pipeline.model import compiled, propagation_triton
from ghn_pipeline.model.propagation import Graphs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def by_triton(
    graphs: Graphs, tensors: tuple[Tensor, ...], how: tuple[int, bool, bool], grad: Tensor
) -> list[Tensor]:
    """Return the embeddings, and the gradients of `tensors`."""
    given = [t.detach().to(DEVICE) for t in (*tensors, torch.tensor(graphs.numbers))]
    rest = max(graphs.sizes), *how
    out = propagation_triton.forward(*given, *rest)
    gradients = propagation_triton.backward(grad.to(DEVICE), out, *given, *rest)
    return [t.cpu() for t in (out, *gradients)]


@pytest.mark.skipif(not compiled.LIBRARIES, reason="nothing was compiled")
@pytest.mark.parametrize(("share", "pass_embeddings"), STACKINGS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_equals_the_program_for_processors(scheme: str, share: bool, pass_embeddings: bool) -> None:
    graphs, in_float32 = arguments((1, 2), seed=1, share=share)
    how = 2, scheme == "synchronous", pass_embeddings
    numbers, most = torch.tensor(graphs.numbers), max(graphs.sizes)
    # an interpreter takes ten seconds for one of them
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6))[: 1 + share]:
        tensors = tuple(t.detach().to(dtype).requires_grad_() for t in in_float32)
        grad = torch.randn_like(tensors[0])
        expected = torch.ops.ghn_pipeline.propagate(*tensors, numbers, most, *how)
        theirs = [expected.detach(), *torch.autograd.grad(expected, tensors, grad)]
        for one, other in zip(by_triton(graphs, tensors, how, grad), theirs, strict=True):
            assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def test_an_architecture_gives_the_same_bytes_alone() -> None:
    graphs, (h, *matrices) = arguments((1, 3), seed=2)
    how, grad = (1, False, True), torch.randn_like(h)
    first, of_h, *_ = by_triton(graphs, (h, *matrices), how, grad)
    own, rows = alone(graphs, 0)
    embeddings, of_mine, *_ = by_triton(own, (h[:1, rows], *matrices), how, grad[:1, rows])
    assert torch.equal(embeddings[0], first[0, rows])
    assert torch.equal(of_mine[0], of_h[0, rows])
