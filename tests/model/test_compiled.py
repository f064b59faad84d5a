"""The operator that propagates, by compiled code, against its definition in PyTorch."""

import copy
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor
from workplace import ROOT

from ghn_pipeline.model import compiled, propagation
from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.network import Network
from ghn_pipeline.model.propagation import Graphs, Propagation
from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.nasbench201 import EDGES, NasBench201
from ghn_pipeline.spaces.space import Space

SPACES: dict[str, Space] = {
    "classification": Classification(("identity", "conv_1x1"), 2, 3, 4, (2,), 1, 10),
    "nasbench201": NasBench201(EDGES, 3, 4, (2,), 1, 10),
    "anytime": Anytime(("dense_conv_1x1", "dense_max_pool_3x3"), 2, 3, 3, 4, (2, 3), 1, 10),
}
#: Table 5: (SP, PE)
STACKINGS = ((False, False), (False, True), (True, True))
SCHEMES = ("forward-backward", "synchronous")

needs_the_library = pytest.mark.skipif(not compiled.LIBRARIES, reason="nothing was compiled")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The definition's tensors are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def tolerance(request: pytest.FixtureRequest) -> Iterator[float]:
    """Make everything of one precision; the value is how far rounding may go in it."""
    torch.set_default_dtype(request.param)
    yield 1e-6 if request.param == torch.float32 else 1e-12
    torch.set_default_dtype(torch.float32)


def drawn(space: Space, rng: Random, sizes: tuple[int, ...]) -> list[Network]:
    return [Network(space.modules(space.sample(rng, n)), resolution=8) for n in sizes]


def made(space: Space, networks: list[Network], seed: int, **how: object) -> GHN:
    torch.manual_seed(seed)
    return GHN(
        space.node_types,
        networks,
        size=32 if seed % 2 else 5,  # a multiple of what fits an instruction, and none
        message_hidden=32 if seed % 2 else 7,
        hidden=3,
        scales=space.scales,
        exits=bool(space.exits),
        **how,
    )


def results(ghn: GHN, networks: list[Network]) -> dict[str, Tensor]:
    """All embeddings, and the gradients of a sum of them with random coefficients."""
    ghn.zero_grad()
    embeddings, _ = ghn.embed(networks)
    coefficients = torch.randn(
        embeddings.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    (embeddings * coefficients).sum().backward()
    return {"": embeddings.detach()} | {
        name: p.grad for name, p in ghn.named_parameters() if p.grad is not None
    }


def assert_near_the_definition(
    ghn: GHN, networks: list[Network], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare by the largest number of each tensor: single ones may cancel to almost nothing.

    Where the definition itself rounds, which it shows in float64, ours may round as much.
    """
    ours = results(ghn, networks)
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "LIBRARIES", {})
        theirs = results(ghn, networks)
        exact = results(copy.deepcopy(ghn).double(), networks)
    assert ours.keys() == theirs.keys() == exact.keys()
    for name, tensor in theirs.items():
        rounding = float((tensor - exact[name]).abs().max())
        apart = float((ours[name] - tensor).abs().max())
        assert apart <= tolerance * float(tensor.abs().max()) + rounding, name


@needs_the_library
@pytest.mark.parametrize(("share", "pass_embeddings"), STACKINGS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SPACES)
def test_equals_the_definition(
    name: str,
    scheme: str,
    share: bool,
    pass_embeddings: bool,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = Random(name)
    for passes in range(1, 6):
        networks = drawn(SPACES[name], rng, (3, 7, 1) if name != "nasbench201" else (3, 3))
        ghn = made(
            SPACES[name],
            networks,
            seed=passes,
            passes=passes,
            scheme=scheme,
            share_parameters=share,
            pass_embeddings=pass_embeddings,
            positions=rng.random() < 0.5,
        )
        assert_near_the_definition(ghn, networks, tolerance, monkeypatch)


@needs_the_library
@pytest.mark.parametrize("factor", [10, 1000])
def test_equals_the_definition_where_gates_are_open_or_shut(
    factor: float, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = drawn(SPACES["classification"], Random(0), (4,))
    how = {"scheme": "forward-backward", "share_parameters": True, "pass_embeddings": True}
    ghn = made(SPACES["classification"], networks, seed=1, passes=1, **how)
    with torch.no_grad():
        ghn.propagation.state[:, :, : 3 * 32] *= factor
        ghn.propagation.inputs *= factor
    # the inputs of the gates are so much larger, and so is their rounding
    assert_near_the_definition(ghn, networks, factor * tolerance, monkeypatch)


@needs_the_library
def test_what_is_not_a_number_stays_so() -> None:
    networks = drawn(SPACES["classification"], Random(0), (4,))
    how = {"scheme": "forward-backward", "share_parameters": True, "pass_embeddings": True}
    ghn = made(SPACES["classification"], networks, seed=1, passes=1, **how)
    with torch.no_grad():
        ghn.embedding.weight[ghn.types["stem"], 0] = torch.nan
    assert ghn.embed(networks)[0].isnan().all()


def arguments(sizes: tuple[int, ...], seed: int, share: bool = True) -> tuple[Graphs, tuple]:
    """Return graphs, and random arguments of the operator, except for the numbers of the graphs."""
    networks = drawn(SPACES["classification"], Random(seed), sizes)
    graphs = Graphs([[module.block for module in n.modules] for n in networks])
    torch.manual_seed(seed)
    network = Propagation(8, 6, 1 if share else len(graphs.modules))
    h = torch.randn(len(sizes), graphs.starts[-1], 8)
    gates = network.second @ network.inputs[:, :-1]
    return graphs, tuple(
        t.detach().requires_grad_() for t in (h, network.state, gates, network.inputs)
    )


def alone(graphs: Graphs, b: int) -> tuple[Graphs, list[int]]:
    """Return the graphs of one architecture, and its rows among those of all that are padded."""
    chain = graphs.chains[b]
    starts = zip(graphs.starts, chain, strict=False)
    return Graphs([chain]), [s + v for s, block in starts for v in range(len(block.nodes))]


def operate(graphs: Graphs, tensors: tuple, scheme: str, grad: Tensor) -> list[Tensor]:
    """Return the embeddings and the gradients of `tensors`."""
    numbers, most = torch.tensor(graphs.numbers), max(graphs.sizes)
    how = 3, scheme == "synchronous", True
    out = torch.ops.ghn_pipeline.propagate(*tensors, numbers, most, *how)
    return [out.detach(), *torch.autograd.grad(out, tensors, grad)]


@needs_the_library
@pytest.mark.parametrize("scheme", SCHEMES)
def test_gives_the_same_bytes_again_and_alone(scheme: str) -> None:
    sizes = (4, 9, 1, 6)
    graphs, (h, *matrices) = arguments(sizes, seed=3)
    grad = torch.randn_like(h)
    first = operate(graphs, (h, *matrices), scheme, grad)
    second = operate(graphs, (h, *matrices), scheme, grad)
    assert all(map(torch.equal, first, second))
    for b in range(len(sizes)):
        own, rows = alone(graphs, b)
        mine = h[b : b + 1, rows].detach().requires_grad_()
        embeddings, of_h, *_ = operate(own, (mine, *matrices), scheme, grad[b : b + 1, rows])
        assert torch.equal(embeddings[0], first[0][b, rows])
        assert torch.equal(of_h[0], first[1][b, rows])


@needs_the_library
def test_padding_stays_as_it_is() -> None:
    graphs, (h, *matrices) = arguments((1, 5), seed=4)
    grad = torch.randn_like(h)
    out, of_h, *_ = operate(graphs, (h, *matrices), "forward-backward", grad)
    first = graphs.starts[1] + len(graphs.chains[0][1].nodes)
    padding = slice(first, graphs.starts[2])
    assert torch.equal(out[0, padding], h[0, padding])
    assert torch.equal(of_h[0, padding], grad[0, padding])


@needs_the_library
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_the_operator_keeps_pytorchs_rules(share: bool) -> None:
    graphs, tensors = arguments((2, 3), seed=5, share=share)
    rest = (torch.tensor(graphs.numbers), max(graphs.sizes), 2, False, True)
    torch.library.opcheck(torch.ops.ghn_pipeline.propagate.default, (*tensors, *rest))
    grad = torch.randn_like(tensors[0])
    plain = [t.detach() for t in tensors]
    torch.library.opcheck(
        torch.ops.ghn_pipeline.propagate_backward.default, (grad, plain[0], *plain, *rest)
    )


@needs_the_library
def test_the_gradient_is_that_of_small_changes() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        graphs, tensors = arguments((1,), seed=6)
        rest = (torch.tensor(graphs.numbers), max(graphs.sizes), 1, False, True)
        torch.autograd.gradcheck(lambda *t: torch.ops.ghn_pipeline.propagate(*t, *rest), tensors)
    finally:
        torch.set_default_dtype(torch.float32)


@needs_the_library
def test_runs_on_the_meta_device() -> None:
    networks = drawn(SPACES["classification"], Random(0), (4, 2))
    how = {"scheme": "forward-backward", "share_parameters": True, "pass_embeddings": True}
    ghn = made(SPACES["classification"], networks, seed=1, passes=1, **how)
    expected = ghn.embed(networks)[0].shape
    embeddings, _ = ghn.to("meta").embed(networks)
    assert (embeddings.shape, embeddings.device.type) == (expected, "meta")
    embeddings.sum().backward()


def test_says_what_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(compiled, "LIBRARIES", {torch.float32: None})
    assert compiled.engine(cpu, torch.float32) == "compiled"
    assert compiled.engine(cpu, torch.float64) == "torch"
    for there, engine in ((True, "triton"), (False, "torch")):
        monkeypatch.setattr(compiled, "TRITON", there)
        assert compiled.engine(torch.device("cuda"), torch.float32) == engine
    assert compiled.engine(torch.device("mps"), torch.float32) == "torch"


def test_was_compiled_where_there_is_a_compiler() -> None:
    assert len(compiled.LIBRARIES) == 2 or not shutil.which("cc")


def built(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build the libraries into `folder`, as an installation does."""
    words = [sys.executable, "-c", "import setuptools; setuptools.setup()", "build_ext"]
    words += [f"--build-lib={folder}", f"--build-temp={folder / 'temp'}"]
    return subprocess.run(
        words, cwd=ROOT, env=os.environ | variables, capture_output=True, encoding="utf-8"
    )


def test_installs_without_a_compiler(tmp_path: Path) -> None:
    done = built(tmp_path, CC=str(tmp_path / "none"))
    assert done.returncode == 0
    assert 'building extension "ghn_pipeline.model.propagation_float32" failed' in done.stderr
    assert not list(tmp_path.rglob("*.so"))


@needs_the_library
@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler")
def test_gives_the_same_bytes_by_other_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the choice between sets of vector instructions: those that all processors have
    assert built(tmp_path, CFLAGS="-DVECTORISED=").returncode == 0
    (file,) = tmp_path.glob("ghn_pipeline/model/propagation_float32*.so")
    graphs, tensors = arguments((7, 3), seed=7)
    grad = torch.randn_like(tensors[0])
    ours = operate(graphs, tensors, "forward-backward", grad)
    monkeypatch.setitem(compiled.LIBRARIES, torch.float32, ctypes.CDLL(str(file)))
    assert all(map(torch.equal, ours, operate(graphs, tensors, "forward-backward", grad)))


WITHOUT_DYNAMO = """
import sys
sys.path.insert(0, "tests/model")
from test_compiled import arguments, operate
graphs, tensors = arguments((2,), seed=0)
operate(graphs, tensors, "synchronous", tensors[0].detach())
print("torch._dynamo" in sys.modules)
"""


@needs_the_library
def test_loads_no_compiler_of_pytorch() -> None:
    words = (sys.executable, "-c", WITHOUT_DYNAMO)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    done = subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "False"


def test_the_definition_and_the_operator_take_the_same_arguments() -> None:
    ours = compiled.propagate.__annotations__
    theirs = propagation.propagate.__annotations__
    assert {name: kind for name, kind in ours.items() if name != "numbers"} == theirs
