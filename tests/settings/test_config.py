"""Configuration: the paper's numbers, the presets, and every fault named with its path."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from ghn_pipeline.settings import plain_yaml
from ghn_pipeline.settings.config import Config, adopt, load, merged, validate
from ghn_pipeline.settings.sections import Ghn
from ghn_pipeline.spaces.darts import DartsSettings
from ghn_pipeline.system.errors import UserError

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
#: those that the paper's scale trains
GHNS = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["correlation"]["ghns"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
#: another network, and another space, valid in the place of the paper's
STACK = {"blocks": 15, "channels": 16, "reductions": [6, 9, 11], "stem_multiplier": 1}
WITH_EXITS = {
    "space": {"name": "anytime", "exits": 3, "operations": ["dense_conv_1x1", "dense_conv_3x3"]},
    "network": {"blocks": 3, "reductions": [2, 3]},
    "evaluation": {"measure": "area", "budgets": [1.0, 2.0]},
}
DARTS = list(DartsSettings.known)
CELLS = {"name": "nasbench201", "max_inputs": None, "operations": ["none", "conv_3x3"]}

#: the sections that hold only what differs from `training`
INHERIT = ("ghn", "oneshot")

#: retyped from the text of the paper
PAPER = {
    # 5.1.1: "50,000 training images ... 32×32×3. We use 5,000 images split from the training set"
    "images.train": 45000,
    "images.validation": 5000,
    "images.resolution": 32,
    # 5.1.1: "Each block contains 17 nodes", "formed by stacking 18 blocks"
    "space.nodes": 17,
    "network.blocks": 18,
    # 5.1.1: "halved and the number of channels is doubled after blocks 6 and 12"
    "network.reductions": [7, 13],
    # Table 1: F=32
    "network.channels": 32,
    # 5.1.1: "GRU cell with hidden size 32 and 2 layer MLP with hidden size 32", H "hidden size 64"
    "ghn.embedding": 32,
    "ghn.message_hidden": 32,
    "ghn.hypernetwork_hidden": 64,
    # 5.1.1: "N=7 nodes and T=5 propagations under the forward-backward scheme"
    "ghn.nodes": 7,
    "ghn.passes": 5,
    "ghn.scheme": "forward-backward",
    # 7.2: "200 epochs with batch size 64 using the ADAM optimizer with an initial learning rate
    # 1e-3 that is divided by 2 at epoch 100 and 150"
    "training.epochs": 200,
    "training.batch": 64,
    "training.learning_rate": 0.001,
    "training.halve_at": [100, 150],
    # 5.3: "a fixed set of 100 random architectures", "train them for 50 epochs"
    "correlation.drawn": 100,
    "correlation.architectures": 100,
    # 7.3: "600 epochs", "across 32 GPUs", "initial linear warmup of 5 epochs", and as above
    "finalists.epochs": 600,
    "finalists.workers": 32,
    "finalists.warmup_epochs": 5,
    "finalists.momentum": 0.9,
    "finalists.learning_rate": 0.025,
    "finalists.batch": 64,
    "sgd.epochs": 50,
    # 7.3: "SGD with momentum 0.9, a single period cosine schedule with l_max=0.025, and batch
    # size 64"
    "sgd.momentum": 0.9,
    "sgd.learning_rate": 0.025,
    "sgd.batch": 64,
    # Table 4: its rows of SGD
    "correlation.steps": [10, 100, 200, 1000],
    # 5.1.1: "randomly sample 1000 architectures, and select the top 10", "5 runs of the same final
    # architecture"
    "search.evaluations": 1000,
    "finalists.ranks": list(range(10)),
    "finalists.seeds": list(range(5)),
    # 7.3: "scheduled drop-path with a final dropout probability of 0.4", "auxiliary head located at
    # 2/3 of the network weighted by 0.5"
    "finalists.drop_path": 0.4,
    "finalists.auxiliary_weight": 0.5,
    # 5.1.2: "initial convolution layer of stride 2 before stacking 14 blocks with scale reduction
    # at blocks 1, 2, 6 and 10", "constrained to be under 600M FLOPS"
    "mobile.stem_stride": 2,
    "mobile.blocks": 14,
    "mobile.reductions": [1, 2, 6, 10],
    "mobile.multiply_adds": 600,
    # 7.3: "image size of 224 × 224", "250 epochs using SGD with momentum 0.9, initial learning rate
    # 0.1 multiplied by 0.97 every epoch", "auxiliary head ... weighted by 0.5", "same
    # regularization"
    "mobile.resolution": 224,
    "mobile.epochs": 250,
    "mobile.momentum": 0.9,
    "mobile.learning_rate": 0.1,
    "mobile.decay": 0.97,
    "mobile.auxiliary_weight": 0.5,
    "mobile.drop_path": 0.4,
}


def flat(settings, prefix=""):
    """{"sgd.epochs": 50, ...} of nested mappings."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def fault_lines(tmp_path, changes):
    """Load params.yaml and `changes`; return the lines of the faults, less the first line."""
    (tmp_path / "changes.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load([PARAMS, tmp_path / "changes.yaml"])
    first, *lines = str(caught.value).splitlines()
    count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''}"
    # the files are named in the order in which they were read
    assert first == f"{count} in the configuration ({PARAMS} + {tmp_path / 'changes.yaml'}):"
    return [line.strip() for line in lines]


# ---- what is shipped ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAPER)
def test_params_are_the_papers(path, paper_settings):
    assert flat(paper_settings)[path] == PAPER[path]


def test_the_nine_operations_of_the_appendix(paper_settings):
    kinds = [
        "identity",
        "1x1",
        "sep3",
        "sep5",
        "dil3",
        "dil5",
        "1x7",
        "max3",
        "avg3",
    ]  # 7.1's order
    given = paper_settings["space"]["operations"]
    assert len(given) == len(set(given)) == 9
    for kind, name in zip(kinds, given, strict=True):
        word, side = re.fullmatch(r"([a-z]*)(\d.*|)", kind).groups()
        assert name.startswith(word)
        assert side in name


def test_the_ablations_are_those_of_section_5_4():
    config = load([PARAMS])
    shown = {
        part: [config.ghns[name] for name in names]
        for part, names in config.ablations.model_dump().items()
    }
    # Figure 5a: N in training; 5b: 1 to 5 steps by either scheme; Table 5: SP and PE
    assert [ghn.nodes for ghn in shown["figure5a"]] == list(range(3, 18, 2))
    assert {(ghn.scheme, ghn.passes) for ghn in shown["figure5b"]} == {
        (scheme, passes) for scheme in ("forward-backward", "synchronous") for passes in range(1, 6)
    }
    assert [(ghn.share_parameters, ghn.pass_embeddings) for ghn in shown["table5"]] == [
        (False, False),
        (False, True),
        (True, True),
    ]
    # the one of Table 4 among them
    assert all(config.ghns["default"] in ghns for ghns in shown.values())


@pytest.mark.parametrize("file", [None, *PRESETS], ids=lambda f: f.stem if f else "paper")
def test_every_shipped_configuration_is_valid(file):
    config = load([PARAMS, *([file] if file else [])])
    assert config.scale == (file.stem if file else "paper")
    # a preset says what is smaller; the paper's scales have nothing to say
    assert config.cpu_is_enough == bool(file and file.stem != "anytime")


def test_the_presets():
    assert [p.stem for p in PRESETS] == [
        *("anytime-quick", "anytime-smoke", "anytime", "claims-darts", "claims-nasbench201"),
        *("claims", "darts", "nasbench201-long", "nasbench201", "quick", "smoke"),
    ]


@pytest.mark.parametrize("file", PRESETS, ids=lambda f: f.stem)
def test_presets_hold_only_what_differs(file, paper_settings):
    paper, preset = flat(paper_settings), flat(yaml.safe_load(file.read_text(encoding="utf-8")))
    # what these may change of `training` is in no file before
    inherited = {key: value for key, value in paper.items() if key.startswith("training.")}
    paper |= {k.replace("training", own): v for own in INHERIT for k, v in inherited.items()}
    # a preset may have GHNs and weights of its own, and name what is null in the paper
    named = ("ghns.", "training.operation_weights.", "proxies.network.")
    assert {key for key in preset if not key.startswith(named)} <= set(paper)
    assert [key for key in preset if key in paper and preset[key] == paper[key]] == []


def test_a_preset_changes_what_it_says_and_nothing_else(paper_settings):
    for file in PRESETS:
        expected = {
            **flat(paper_settings),
            **flat(yaml.safe_load(file.read_text(encoding="utf-8"))),
        }
        # `ghn` and `oneshot` have what they do not say from `training`
        training = {k[9:]: v for k, v in expected.items() if k.startswith("training.")}
        for own in INHERIT:
            expected = {f"{own}.{key}": value for key, value in training.items()} | expected
        # an entry of `ghns` has what it does not say from `ghn`
        said = {
            key: value
            for key, value in expected.items()
            if not key.startswith("ghns.") and value is not None
        }
        config = load([PARAMS, file])
        assert flat(config.model_dump(exclude={"ghns"}, exclude_none=True)) == said
        ghn = {k.removeprefix("ghn."): v for k, v in said.items() if k.startswith("ghn.")}
        for name, one in config.ghns.items():
            start = f"ghns.{name}."
            own = {k.removeprefix(start): v for k, v in expected.items() if k.startswith(start)}
            assert flat(one.model_dump()) == {**ghn, **own}


def test_later_files_win_and_lists_are_replaced(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "sgd: {epochs: 7}\nspace: {operations: [identity, conv_1x1]}", encoding="utf-8"
    )
    (tmp_path / "b.yaml").write_text("sgd: {epochs: 8}", encoding="utf-8")
    config = load([PARAMS, tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert config.sgd.epochs == 8
    assert config.sgd.batch == 64
    assert config.space.operations == ["identity", "conv_1x1"]


def test_named_ghns_change_the_common_settings(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "ghns: {default: {}, short: {passes: 1, nodes: 5}}", encoding="utf-8"
    )
    config = load([PARAMS, tmp_path / "a.yaml"])
    assert (config.ghns["default"].passes, config.ghns["short"].passes) == (5, 1)
    assert config.ghns["short"].embedding == 32


def test_merging_leaves_its_arguments_alone():
    base, changes = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merged(base, changes) == {"a": {"b": 1, "c": 2}}
    assert (base, changes) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize("file", PRESETS, ids=lambda f: f.stem)
def test_an_adopted_preset_is_the_same_settings_with_the_comments(file, tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(PARAMS, path)
    assert adopt(path, [file]) == load([PARAMS, file]) == load([path])

    preset, text = (
        yaml.safe_load(file.read_text(encoding="utf-8")),
        PARAMS.read_text(encoding="utf-8"),
    )

    def places(text):
        return [line.split("#", 1)[1] for line in text.splitlines() if "#" in line]

    if "operations" in preset.get("space", {}):  # one that it has not takes its comment with it
        text = re.sub(r"\n    - conv_1x7_7x1 .*", "", text)
    assert places(path.read_text(encoding="utf-8")) == places(text)
    # sections that the preset does not change are not touched
    sections = re.split(r"\n(?=\w+:)", PARAMS.read_text(encoding="utf-8"))
    untouched = [s for s in sections if s.split(":")[0] not in preset]
    assert any(s.startswith("seeds:") for s in untouched)
    assert all(s.strip() in path.read_text(encoding="utf-8") for s in untouched)


def test_a_preset_on_top_of_another_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(PARAMS, path)
    quick, smoke = (ROOT / f"presets/{name}.yaml" for name in ("quick", "smoke"))
    adopt(path, [smoke])
    held = path.read_bytes()
    # what smoke changed and quick does not would stay
    for read in (lambda: adopt(path, [quick]), lambda: load([path, quick])):
        with pytest.raises(UserError, match=r"already of the scale 'smoke'.*git checkout"):
            read()
    assert path.read_bytes() == held
    # the same again, changes, and a scale of one's own on top of a preset are no mixture
    (tmp_path / "mine.yaml").write_text("scale: mine\nsgd: {epochs: 4}\n", encoding="utf-8")
    (tmp_path / "change.yaml").write_text("sgd: {epochs: 4}\n", encoding="utf-8")
    assert adopt(path, [smoke]) == load([path]) == load([PARAMS, smoke])
    assert adopt(path, [tmp_path / "change.yaml"]).sgd.epochs == 4
    assert load([PARAMS, quick, tmp_path / "mine.yaml"]).scale == "mine"


def test_a_faulty_preset_is_not_adopted(tmp_path):
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    (tmp_path / "bad.yaml").write_text("sgd: {epochs: 0}", encoding="utf-8")
    with pytest.raises(UserError, match=r"sgd\.epochs"):
        adopt(tmp_path / "params.yaml", [tmp_path / "bad.yaml"])
    assert (tmp_path / "params.yaml").read_bytes() == PARAMS.read_bytes()


def test_a_title_cannot_claim_another_size(configured):
    note = configured({"images.train": 704, "sgd.epochs": 9}).scale_note
    assert note.startswith("smoke preset: 704 training images at 8×8, F=4, 2 blocks of 3 nodes")
    assert note.endswith("9 epochs")
    config = configured({"finalists.epochs": 7, "mobile.resolution": 64, "mobile.epochs": 8})
    assert config.finalists_note.endswith("finalists of 7 epochs")
    assert config.mobile_note.startswith("smoke preset: images of 64×64, 4 blocks of 3 nodes")
    assert config.mobile_note.endswith("8 epochs")


# ---- faults ------------------------------------------------------------------------------------


def test_three_faults_are_named_at_once(tmp_path):
    lines = fault_lines(tmp_path, {"sgd": {"epoch": 3, "batch": "many", "momentum": 1.5}})
    assert sorted(line.split(":")[0] for line in lines) == [
        "sgd.batch",
        "sgd.epoch",
        "sgd.momentum",
    ]
    said = {line.split(":")[0]: line for line in lines}
    assert "unknown key" in said["sgd.epoch"]
    assert "integer" in said["sgd.batch"]
    assert "'many'" in said["sgd.batch"]
    assert "less than 1" in said["sgd.momentum"]
    assert "1.5" in said["sgd.momentum"]


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"sgd": {"epochs": 0}}, "sgd.epochs", "greater than or equal to 1"),
        ({"sgd": {"epochs": 2.5}}, "sgd.epochs", "integer"),
        ({"sgd": {"epochs": True}}, "sgd.epochs", "integer"),
        ({"sgd": {"weight_decay": -1.0}}, "sgd.weight_decay", "greater than or equal to 0"),
        ({"sgd": {"learning_rate": "0.001"}}, "sgd.learning_rate", "in quotes a number is text"),
        ({"sgd": {"learning_rate": float("nan")}}, "sgd.learning_rate", "nan"),
        ({"sgd": {"learning_rate": float("inf")}}, "sgd.learning_rate", "inf"),
        ({"images": {"train": 45001}}, "images.train", "45000"),
        ({"images": {"resolution": 12}}, "images.resolution", "32"),
        ({"space": {"operations": ["identity", "conv_9x9"]}}, "space.operations", "conv_9x9"),
        ({"ghn": {"scheme": "backward"}}, "ghn.scheme", "synchronous"),
        ({"tables": {"costs": "yes"}}, "tables.costs", "boolean"),
        ({"scale": "../elsewhere"}, "scale", "pattern"),
        ({"compute": {"device": "gpu"}}, "compute.device", "cuda"),
        ({"seeds": {"split": None}}, "seeds.split", "integer"),
        ({"data": {"sources": []}}, "data.sources", "at least 1"),
        ({"sgd": None}, "sgd", "a mapping"),
        ({"surplus": {"a": 1}}, "surplus", "unknown key"),
        ({"finalists": {"drop_path": 1.0}}, "finalists.drop_path", "less than 1"),
        ({"finalists": {"seeds": []}}, "finalists.seeds", "at least 1"),
        ({"mobile": {"auxiliary_channels": [128]}}, "mobile.auxiliary_channels", "at least 2"),
        ({"mobile": {"decay": 1.5}}, "mobile.decay", "less than or equal to 1"),
        ({"memory": {"nodes": [3]}}, "memory.nodes", "at least 2"),
        ({"space": {"name": "nasbench101"}}, "space.name", "nasbench201"),
        ({"space": {"max_inputs": 0}}, "space.max_inputs", "greater than or equal to 1"),
        ({"ghn": {"positions": 1}}, "ghn.positions", "boolean"),
        ({"ghn": {"operation_weights": {"identity": 0}}}, "ghn.operation_weights.identity", "to 1"),
        ({"ghn": {"warmup": -1}}, "ghn.warmup", "greater than or equal to 0"),
        ({"ghn": {"average": 1.0}}, "ghn.average", "less than 1"),
        # far above any use
        ({"network": {"channels": 100000000000}}, "network.channels", "equal to 10000"),
        ({"network": {"blocks": 1001}}, "network.blocks", "equal to 1000"),
        ({"space": {"nodes": 10**30}}, "space.nodes", "1000"),
        ({"ghn": {"passes": 10**9}}, "ghn.passes", "equal to 1000"),
        ({"ghns": {"default": {"embedding": 10**9}}}, "ghns.default.embedding", "equal to 10000"),
        ({"sgd": {"epochs": 10**9}}, "sgd.epochs", "equal to 100000"),
        ({"correlation": {"repeats": 10**9}}, "correlation.repeats", "equal to 1000"),
        ({"seeds": {"split": 2**32}}, "seeds.split", "equal to 4294967295"),
        ({"compute": {"memory_mb": 10**12}}, "compute.memory_mb", "equal to 100000000"),
        ({"compute": {"minutes": 525601}}, "compute.minutes", "equal to 525600"),
        ({"compute": {"threads": 10**6}}, "compute.threads", "equal to 10000"),
        ({"images": {"padding": 33}}, "images.padding", "equal to 32"),
        ({"sgd": {"learning_rate": 1e30}}, "sgd.learning_rate", "equal to 1000"),
        # a path that no file system takes, or that would break a line
        ({"data": {"folder": "a\0b"}}, "data.folder", "pattern"),
        ({"data": {"local": "a\nb"}}, "data.local", "pattern"),
        ({"mobile": {"folder": "\0"}}, "mobile.folder", "pattern"),
        ({"mobile": {"folder": "a" * 1001}}, "mobile.folder", "1000"),
        ({"data": {"folder": "\ud800"}}, "data.folder", "unicode"),
        # a name that would be an option
        ({"scale": "-v"}, "scale", "pattern"),
        ({"scale": "a" * 101}, "scale", "at most 100"),
        ({"ghns": {"-v": {}}}, "ghns.-v.[key]", "pattern"),
        # the nearest known one
        ({"sgd": {"epoch": 3}}, "sgd.epoch", "unknown key (did you mean epochs?)"),
        ({"surch": {}}, "surch", "unknown key (did you mean search?)"),
        ({"ghns": {"default": {"pases": 3}}}, "ghns.default.pases", "did you mean passes?"),
        ({"ghns": {"default": {"pases": None}}}, "ghns.default.pases", "did you mean passes?"),
        ({"ghns": {"default": {1.5: 3}}}, "ghns.default.1.5", "keys should be strings"),
        ({"ghns": {"default": {None: 3}}}, "ghns.default.None", "keys should be strings"),
        ({"ghns": {1.5: {}}}, "ghns.1.5.[key]", "a valid string"),
        ({"ghns": {"default": 3}}, "ghns.default", "must be a mapping of settings, not 3"),
        ({"ghns": []}, "ghns", "must be a mapping of settings"),
        ({"anytime": {"msdnet": {"grow": 3}}}, "anytime.msdnet.grow", "did you mean growth?"),
        ({"space": {"name": "nasbensh201"}}, "space.name", "did you mean nasbench201?"),
        ({"evaluation": {"measure": "liklihood"}}, "evaluation.measure", "mean likelihood?"),
        (
            {"space": {"operations": ["identity", "sepconv_3x3"]}},
            "space.operations",
            "did you mean sep_conv_3x3?",
        ),
        ({"anytime": {"rivals": ["msd_net"]}}, "anytime.rivals.0", "did you mean msdnet?"),
        ({"ghn": {"seeds": [-1]}}, "ghn.seeds.0", "greater than or equal to 0"),
        ({"oneshot": {"seeds": []}}, "oneshot.seeds", "at least 1"),
        ({"ghn": {"seed": 1}}, "ghn.seed", "unknown key (did you mean seeds?)"),
        ({"oneshot": {"passes": 1}}, "oneshot.passes", "unknown key"),
        ({"correlation": {"drawn": 4}}, "correlation.drawn", "greater than or equal to 5"),
        ({"evaluation": {"measure": "loss"}}, "evaluation.measure", "likelihood"),
        (
            {"evaluation": {"measure": "flow", "flow": 1.0}},
            "evaluation.flow",
            "less than or equal to 0.5",
        ),
        ({"space": 3}, "space", "must be a mapping of settings, not 3"),
        ({"space": {"nods": 3}}, "space.nods", "did you mean nodes?"),
        ({"evaluation": {"measure": None}}, "evaluation.measure", "must be one of"),
        ({"proxies": {"resolution": 12}}, "proxies.resolution", "32"),
        ({"proxies": {"network": {**STACK, "blocks": 0}}}, "proxies.network.blocks", "to 1"),
        ({"proxies": {"batch": 1}}, "proxies.batch", "greater than or equal to 2"),
        ({"correlation": {"steps": [0]}}, "correlation.steps.0", "greater than or equal to 1"),
        ({"benchmark": {"curve": -1}}, "benchmark.curve", "greater than or equal to 0"),
        ({"benchmark": {"top": 1}}, "benchmark.top", "less than 1"),
    ],
)
def test_one_fault_is_named_with_its_path(changes, path, words, tmp_path):
    (line,) = fault_lines(tmp_path, changes)
    assert line.startswith(f"{path}: ")
    assert words in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation": {"batch": 501}}, ["evaluation", "10", "501", "images.validation"]),
        ({"ghn": {"batch": 45001}}, ["ghn.batch", "images.train"]),
        ({"oneshot": {"batch": 45001}}, ["oneshot.batch", "images.train"]),
        ({"oneshot": {"warmup": 140601}}, ["oneshot.warmup", "140601"]),
        ({"oneshot": {"operation_weights": {"conv_1x": 2}}}, ["oneshot.operation_weights"]),
        ({"correlation": {"repeats": 2}}, ["correlation.repeats", "0, or 3 or more"]),
        # 50 epochs of 703 batches
        ({"correlation": {"steps": [10, 35151]}}, ["correlation.steps", "35150", "sgd.epochs"]),
        ({"network": {"reductions": [19]}}, ["network.reductions", "18"]),
        ({"network": {"reductions": [2, 3, 4, 5, 6, 7]}}, ["network.reductions", "resolution"]),
        ({"ghns": {"default": {"pases": 3}}}, ["ghns.default.pases", "unknown key"]),
        ({"ghns": {"default": {"passes": 0}}}, ["ghns.default.passes", "1"]),
        ({"ghns": {"other": {"batch": 45001}}}, ["ghns.other.batch"]),
        ({"correlation": {"ghns": [*GHNS, "other"]}}, ["correlation.ghns", "'other'"]),
        ({"correlation": {"ghns": [*GHNS, "default"]}}, ["correlation.ghns", "twice"]),
        # ablations: what is shown is trained, and differs in what the figure or table shows
        ({"ablations": {"figure5a": ["default", "none"]}}, ["ablations.figure5a", "'none'"]),
        (
            {"ablations": {"figure5a": ["default", "passes-1"]}},
            ["ablations.figure5a", "differ in more than nodes"],
        ),
        (
            {"ablations": {"figure5b": ["nodes-3", "default"]}},
            ["ablations.figure5b", "differ in more than passes and scheme"],
        ),
        (
            {"ghns": {"stacked": {"epochs": 9}}},
            ["ablations.table5", "differ in more than share_parameters and pass_embeddings"],
        ),
        ({"ghns": {"nodes-3": {"nodes": 7}}}, ["ablations.figure5a", "two", "the same"]),
        # what a space has, and what only a space of which accuracies are published has
        (
            {"space": {"max_inputs": None}},
            ["space.max_inputs", "not be null", "classification"],
        ),
        (
            {"space": {"operations": ["identity", "none", "conv_3x3"]}},
            ["space.operations", "classification has no none, conv_3x3"],
        ),
        (
            {"ghn": {"operation_weights": {"conv_3x3": 2}}},
            ["ghn.operation_weights", "conv_3x3", "space.operations"],
        ),
        (
            {"ghns": {"stacked": {"operation_weights": {"none": 2}}}, "ablations": {"table5": []}},
            ["ghns.stacked.operation_weights", "none", "space.operations"],
        ),
        ({"space": {"operations": ["identity"] * 2}}, ["space.operations", "twice"]),
        ({"correlation": {"selection": 5}}, ["correlation.selection", "0", "published"]),
        ({"benchmark": {"curve": 3}}, ["benchmark.curve", "0", "published"]),
        ({"benchmark": {"table": "a.csv"}}, ["benchmark.table", '""', "classification"]),
        (
            {"space": {**CELLS, "nodes": 3, "max_inputs": 2}},
            ["space.max_inputs", "null", "nasbench201"],
        ),
        (
            {"space": {**CELLS, "nodes": 3, "operations": ["none", "max_pool_3x3"]}},
            ["space.operations", "nasbench201 has no max_pool_3x3"],
        ),
        (
            {"space": {**CELLS, "nodes": 3}, "network": {"stem_multiplier": 2}},
            ["network.stem_multiplier", "1", "nasbench201"],
        ),
        # what networks with exits need, and no others have
        (
            {"evaluation": {"budgets": [1.0, 2.0]}},
            ["evaluation.budgets", "be null", "accuracy"],
        ),
        (
            {"evaluation": {"measure": "area", "budgets": [1.0, 2.0]}},
            ["evaluation.measure", "likelihood or flow"],
        ),
        # the power of synflow goes with the measure that has it
        ({"evaluation": {"measure": "flow"}}, ["evaluation.flow", "must not be null", "is flow"]),
        ({"evaluation": {"flow": 0.1}}, ["evaluation.flow", "null", "is accuracy"]),
        *(
            (merged(WITH_EXITS, changes), faults)
            for changes, faults in (
                ({"space": {"exits": 35}}, ["space.exits", "33"]),
                ({"network": {"blocks": 4}}, ["network.blocks", "3"]),
                *(
                    ({"network": {"reductions": reductions}}, ["network.reductions", "[2, 3]"])
                    for reductions in ([], [2], [1, 2], [3, 2])
                ),
                (
                    {"evaluation": {"budgets": None}},
                    ["evaluation.budgets", "not be null", "area"],
                ),
                ({"evaluation": {"budgets": [2.0, 1.0]}}, ["evaluation.budgets", "lower"]),
                (
                    {"evaluation": {"measure": "accuracy", "budgets": None}},
                    ["evaluation.measure", "area"],
                ),
                ({"anytime": {"top": [1000]}}, ["anytime.top", "1000", "search.evaluations"]),
                ({"anytime": {"random": [0, 1, 100]}}, ["anytime.random", "correlation.drawn"]),
                ({"anytime": {"top": [1, 1]}}, ["anytime.top", "twice"]),
                ({"anytime": {"rivals": ["msdnet"] * 2}}, ["anytime.rivals", "twice"]),
                ({"anytime": {"batch": 45001}}, ["anytime.batch", "images.train"]),
                ({"anytime": {"resnet_mc": {"blocks": 3}}}, ["anytime.resnet_mc.exits", "blocks"]),
                ({"anytime": {"densenet_mc": {"exits": [9]}}}, ["anytime.densenet_mc", "layers"]),
            )
        ),
        # more modules than any memory holds
        ({"network": {"blocks": 1000}, "space": {"nodes": 21}}, ["network.blocks", "21,000 nodes"]),
        # names that are nearly those of GHNs and operations
        ({"correlation": {"ghns": ["defualt"]}}, ["correlation.ghns", "did you mean default?"]),
        ({"ablations": {"table5": ["staked"]}}, ["ablations.table5", "did you mean stacked?"]),
        (
            {"ghn": {"operation_weights": {"conv_1x": 2}}},
            ["ghn.operation_weights", "did you mean conv_1x1?"],
        ),
        # more than are drawn, or than there are images
        ({"correlation": {"drawn": 99}}, ["correlation.architectures", "correlation.drawn"]),
        ({"correlation": {"repeats": 101}}, ["correlation.repeats", "correlation.architectures"]),
        # seeds, whose names must not be those of other GHNs
        ({"ghn": {"seeds": [0, 1, 0]}}, ["ghn", "seeds", "twice"]),
        ({"oneshot": {"seeds": [2, 2]}}, ["oneshot.seeds", "twice"]),
        ({"ghns": {"mine": {"seeds": [2, 2]}}}, ["ghns.mine.seeds", "twice"]),
        (
            {"ghns": {"a": {"seeds": [0, 1]}, "a-1": {}}},
            ["ghns", "a-1 is the name of two GHNs", "NAME-SEED"],
        ),
        (
            {
                "space": {**CELLS, "nodes": 3},
                "proxies": {"resolution": 4, "network": STACK},
            },
            ["proxies.network.reductions", "resolution"],
        ),
        (
            {
                "space": {**CELLS, "nodes": 3},
                "proxies": {"network": {**STACK, "reductions": [16]}},
            },
            ["proxies.network.reductions", "15"],
        ),
        ({"proxies": {"network": STACK}}, ["proxies", "network", "null", "classification"]),
        ({"proxies": {"resolution": 16}}, ["proxies", "resolution", "null", "classification"]),
        # 200 epochs of 703 batches
        (
            {"ghns": {"passes-1": {"warmup": 140601}}, "ablations": {"figure5b": []}},
            ["ghns.passes-1.warmup", "140601"],
        ),
        ({"proxies": {"batch": 45001}}, ["proxies.batch", "images.train"]),
        # searches
        ({"search": {"seeds": [0, 1, 0]}}, ["search.seeds", "twice"]),
        ({"search": {"sample": 101}}, ["search.sample", "search.population"]),
        ({"search": {"evaluations": 99}}, ["search.population", "search.evaluations"]),
        # finalists and the mobile network: 64 images times 32 workers, 128 times 32
        ({"finalists": {"ranks": [0, 0]}}, ["finalists.ranks", "twice"]),
        ({"finalists": {"ranks": [1000]}}, ["finalists.ranks", "search.evaluations"]),
        ({"finalists": {"seeds": [3, 3]}}, ["finalists.seeds", "twice"]),
        ({"finalists": {"batch": 1408}}, ["finalists.batch", "images.train"]),
        ({"finalists": {"norm_batch": 63}}, ["finalists.norm_batch", "divide batch"]),
        ({"finalists": {"processes": 24}}, ["finalists.processes", "the 32 groups"]),
        ({"finalists": {"norm_batch": 32, "processes": 128}}, ["finalists.processes", "64 groups"]),
        ({"finalists": {"processes": 4}}, ["finalists.processes", "the nodes"]),
        ({"finalists": {"warmup_epochs": 601}}, ["finalists.warmup_epochs", "than epochs"]),
        ({"mobile": {"norm_batch": 127}}, ["mobile.norm_batch", "divide batch"]),
        ({"mobile": {"processes": 24}}, ["mobile.processes", "the 32 groups"]),
        ({"mobile": {"reductions": [15]}}, ["mobile.reductions", "14"]),
        ({"mobile": {"resolution": 31}}, ["mobile.reductions", "mobile.resolution"]),
        ({"compute": {"minutes": 3}}, ["compute.stop_seconds", "compute.minutes"]),
        ({"method": 4}, ["method", "5"]),
    ],
)
def test_sections_must_agree(changes, words, tmp_path):
    (line,) = fault_lines(tmp_path, changes)
    for word in words:
        assert word in line


def test_what_only_published_accuracies_allow_is_allowed_beside_them(tmp_path):
    changes = {
        "space": {**CELLS, "nodes": 3},
        "correlation": {"selection": 5},
        "benchmark": {"curve": 3},
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    config = load([PARAMS, tmp_path / "a.yaml"])
    assert (config.space.max_inputs, config.correlation.selection) == (None, 5)


def test_the_last_step_of_sgd_is_allowed(tmp_path):
    (tmp_path / "a.yaml").write_text("correlation: {steps: [35150]}", encoding="utf-8")
    assert load([PARAMS, tmp_path / "a.yaml"]).correlation.steps == [35150]


def test_other_processes_that_share_the_work_evenly_are_allowed(tmp_path):
    for processes, nodes in ((1, 1), (8, 2), (16, 16)):
        shared = {"processes": processes, "nodes": nodes}
        both = {"finalists": shared, "mobile": dict(shared)}  # of one object it would be an alias
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(both), encoding="utf-8")
        assert load([PARAMS, tmp_path / "a.yaml"]).finalists.workers == 32


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"benchmark": {"table": ""}}, ["benchmark.table", "must name a file", "pym1024/SWAP"]),
        ({"benchmark": {"curve": 2}}, ["benchmark.curve", "correlation.selection", "3 or more"]),
        ({"space": {"nodes": 3}}, ["space.nodes", "4 sums"]),
        ({"space": {"operations": DARTS[1:]}}, ["space.operations", "also have ['none']"]),
        ({"ghns": {"default": {"nodes": 5}}}, ["ghns.default.nodes", "at most 4"]),
    ],
)
def test_settings_of_darts_must_fit_the_published_cells(changes, words, tmp_path):
    file = tmp_path / "changes.yaml"
    file.write_text(yaml.safe_dump(changes), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load([PARAMS, PARAMS.parent / "presets/darts.yaml", file])
    _, line = str(refused.value).splitlines()
    assert all(word in line for word in words), line


def test_several_disagreements_are_named_at_once(tmp_path):
    changes = {
        "evaluation": {"batch": 5001},
        "network": {"reductions": [20]},
        "ghns": {"default": {"pases": 1, "epochs": 0}},
        "mobile": {"processes": 24},
    }
    paths = [re.split(":", line)[0] for line in fault_lines(tmp_path, changes)]
    assert sorted(paths) == [
        "evaluation",
        "ghns.default.epochs",
        "ghns.default.pases",
        "mobile.processes",
        "network.reductions",
    ]


def test_a_fault_elsewhere_does_not_hide_one_in_a_named_ghn(tmp_path):
    changes = {"sgd": {"epochs": 0}, "ghns": {"default": {"pases": 1}}}
    paths = [line.split(":")[0] for line in fault_lines(tmp_path, changes)]
    assert sorted(paths) == ["ghns.default.pases", "sgd.epochs"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # of the wrong type, outside its bounds, unknown
        ({"batch": "many"}, ["training.batch", "integer"]),
        ({"epochs": 0}, ["training.epochs", "to 1"]),
        ({"seeds": []}, ["training.seeds", "at least 1"]),
        ({"operation_weights": {"identity": 0}}, ["training.operation_weights.identity", "to 1"]),
        ({"epoch": 3}, ["training.epoch", "did you mean epochs?"]),
        ({"passes": 3}, ["training.passes", "unknown key"]),
        # at odds with other sections
        ({"batch": 45001}, ["training.batch", "images.train"]),
        ({"operation_weights": {"conv_1x": 2}}, ["training.operation_weights", "mean conv_1x1?"]),
        ({"seeds": [1, 1]}, ["training.seeds", "twice"]),
    ],
)
def test_a_fault_of_what_all_trainings_inherit_is_named_once(changes, words, tmp_path):
    (line,) = fault_lines(tmp_path, {"training": changes})
    for word in words:
        assert word in line


def test_a_fault_that_a_section_repeats_is_its_own_too(tmp_path):
    changes = {
        "training": {"batch": "many"},
        "oneshot": {"batch": "more"},
        "ghns": {"default": {"batch": "most"}},
    }
    paths = [line.split(":")[0] for line in fault_lines(tmp_path, changes)]
    assert sorted(paths) == ["ghns.default.batch", "oneshot.batch", "training.batch"]
    changes = {"training": {"batch": 45001}, "oneshot": {"batch": 45002}}
    paths = [line.split(":")[0] for line in fault_lines(tmp_path, changes)]
    assert sorted(paths) == ["oneshot.batch", "training.batch"]


@pytest.mark.parametrize("section", sorted(Config.model_fields))
def test_a_missing_section_is_named(section, paper_settings):
    settings = {k: v for k, v in paper_settings.items() if k != section}
    with pytest.raises(UserError, match=rf"\n  {section}: is missing$"):
        validate(settings, "the test")


@pytest.mark.parametrize("changes", ["1: 2", "sgd: {1: 2}", "ghns: {default: {1: 2}}"])
def test_keys_that_are_numbers_are_faults(changes, tmp_path):
    (tmp_path / "a.yaml").write_text(changes, encoding="utf-8")
    with pytest.raises(UserError, match="1 fault in the configuration"):
        load([PARAMS, tmp_path / "a.yaml"])


# ---- files that are no configuration -----------------------------------------------------------


@pytest.mark.parametrize("content", ["", "[1, 2]", "just text", "3"])
def test_a_file_that_is_no_mapping(content, tmp_path):
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.yaml must be a mapping of sections"):
        load([PARAMS, tmp_path / "a.yaml"])


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nsgd: [1", ["line 2", "flow sequence"]),
        (b"a: b: c", ["line 1", "mapping values"]),
        (b"\tx: 1", ["line 1"]),
        (b"\x00", ["#x0000"]),
        (b"scale: a\x07b", ["#x0007"]),
        (b"\xff\xfe\xfd", ["is not UTF-8", "byte 0"]),
        ("scale: caf\xe9".encode("latin-1"), ["is not UTF-8", "byte 10"]),
        ("scale: x\n".encode("utf-16"), ["is not UTF-8"]),
        # nested thousands deep, closed or not, in either style
        (b"sgd:\n  " + b"[" * 5000, ["line 2", "more than 20 deep"]),
        (b"sgd: " + b"[" * 5000 + b"]" * 5000, ["line 1", "more than 20 deep"]),
        (b"sgd: " + b"{a: " * 5000, ["line 1", "more than 20 deep"]),
        (b"- " * 5000, ["line 1", "more than 20 deep"]),
        # "billion laughs", something that holds itself, and a section that is another's too
        (BOMB.encode(), ["line 1", "anchors"]),
        (b"sgd: &a [*a]", ["line 1", "anchors"]),
        (b"a: 1\nsgd: *a", ["line 2", "aliases"]),
        (b"sgd: {<<: {epochs: 3}}", ["line 1", "'<<'"]),
        (b"sgd: !!set {epochs}", ["line 1", "tags"]),
        (b"sgd: !!int abc", ["line 1", "tags"]),
        (b"a: 1\nscale: 2026-11-28", ["line 2", "'2026-11-28'", "quotes"]),
        (b"scale: =", ["line 1", "'='"]),
        (b"? [a, b]\n: 1", ["line 1", "a key must be a name"]),
        (b"seeds: {split: " + b"9" * 20_000 + b"}", ["line 1", "10,000 characters"]),
        (b"seeds: {split: " + b"9" * 9_000 + b"}", ["not plain YAML"]),
        (b"scale: a\n---\nscale: b", ["line 2", "another document"]),
        # YAML 1.1 reads a plain `yes` as true, and ruamel fails on versions that it does not know
        (b"%YAML 1.1\n---\nscale: yes", ["line 1", "directives"]),
        (b"# paper\n%YAML 1.3\n---\nscale: a", ["line 2", "directives"]),
    ],
)  # fmt: skip
def test_a_file_that_is_no_plain_yaml_is_one_message(content, words, tmp_path):
    (tmp_path / "a.yaml").write_bytes(content)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    for read in (load, lambda files: adopt(files[0], files[1:])):
        with pytest.raises(UserError, match=r"^\S*a\.yaml is not ") as caught:
            read([tmp_path / "params.yaml", tmp_path / "a.yaml"])
        assert len(str(caught.value)) < 600
        assert [word for word in words if word not in str(caught.value)] == []
    assert (tmp_path / "params.yaml").read_bytes() == PARAMS.read_bytes()


@pytest.mark.parametrize(
    ("content", "key", "lines"),
    [
        ("sgd:\n  epochs: 3\n  batch: 64\n  epochs: 4\n", "epochs", (4, 2)),
        ("sgd: {epochs: 3}\nghn: {}\nsgd: {batch: 64}\n", "sgd", (3, 1)),
        ("ghns: {a: {}, b: {},\n a: {}}\n", "a", (2, 1)),
        ("anytime:\n  msdnet:\n    base: 1\n    'base': 1\n", "base", (4, 3)),
        ("ghns:\n  a: {nodes: 3,\n    nodes: 3}\n", "nodes", (3, 2)),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(content, key, lines, tmp_path):
    again, first = lines
    said = rf"line {again}: the key '{key}' is given twice, first in line {first}$"
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8")
    for read in (load, lambda files: adopt(files[0], files[1:])):
        with pytest.raises(UserError, match=rf"a\.yaml.*{said}"):
            read([tmp_path / "params.yaml", tmp_path / "a.yaml"])
    # in params.yaml itself too
    text = PARAMS.read_text(encoding="utf-8") + "\nscale: other\n"
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    for read in (load, lambda files: adopt(files[0], [])):
        with pytest.raises(
            UserError, match=r"params\.yaml.*'scale' is given twice, first in line 5"
        ):
            read([tmp_path / "params.yaml"])
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == text


#: which the two versions of YAML, 1.1 and 1.2, take differently, or alike
VALUES = ["1e-3", "1E5", "010", "09", "1_000", "1:30", "0o14", "0x1f", ".5", "1.", "+1"]
VALUES += ["yes", "on", "Yes", "true", "~", "null", "y", "1.0e-3"]


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_what_it_is_to_dvc(text, tmp_path):
    """DVC's own reader gives jobs their names: seed 010 must not be 8 here and 10 there."""
    from dvc.utils.serialize import load_yaml

    (tmp_path / "a.yaml").write_text(f"key: {text}\n", encoding="utf-8")
    mine, dvcs = plain_yaml.read(tmp_path / "a.yaml"), load_yaml(str(tmp_path / "a.yaml"))
    edited = plain_yaml.read(tmp_path / "a.yaml", plain_yaml.editor())
    assert (mine, type(mine["key"])) == (dvcs, type(dvcs["key"]))
    assert mine == edited


def test_a_rate_may_be_written_with_an_exponent_alone(tmp_path):
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    (tmp_path / "a.yaml").write_text("sgd: {learning_rate: 1e-3}\n", encoding="utf-8")
    config = load([tmp_path / "params.yaml", tmp_path / "a.yaml"])
    assert config.sgd.learning_rate == 0.001
    adopt(tmp_path / "params.yaml", [tmp_path / "a.yaml"])
    assert load([tmp_path / "params.yaml"]) == config


def test_yaml_cannot_execute_code(tmp_path):
    mark = tmp_path / "executed"
    (tmp_path / "a.yaml").write_text(
        f"scale: !!python/object/apply:os.mkdir ['{mark}']", encoding="utf-8"
    )
    with pytest.raises(UserError, match="is not plain YAML"):
        load([PARAMS, tmp_path / "a.yaml"])
    assert not mark.exists()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the configuration .*none\.yaml"):
        load([PARAMS, tmp_path / "none.yaml"])
    with pytest.raises(UserError, match=r"cannot read the configuration .*Is a directory"):
        load([tmp_path])


def test_comments_do_not_matter(tmp_path):
    shutil.copy(PARAMS, tmp_path / "a.yaml")
    with open(tmp_path / "a.yaml", "a", encoding="utf-8") as file:
        file.write("\n# more words\n")
    assert load([tmp_path / "a.yaml"]) == load([PARAMS])


def test_every_number_and_list_has_both_bounds() -> None:
    """Read off the schema that pydantic writes, which is not how the settings are declared."""

    def unbounded(part, path):
        if isinstance(part, list):
            return [found for each in part for found in unbounded(each, path)]
        if not isinstance(part, dict):
            return []
        found = [p for key, value in part.items() for p in unbounded(value, f"{path}.{key}")]
        below = part.keys() & {"minimum", "exclusiveMinimum"}
        above = part.keys() & {"maximum", "exclusiveMaximum"}
        if part.get("type") in ("integer", "number") and not (below and above):
            found += [] if "enum" in part or "const" in part else [path]
        if part.get("type") == "array" and "maxItems" not in part:
            found.append(path)
        return found

    assert unbounded(Config.model_json_schema(), "") == []


def test_models_are_trained_alike_unless_the_settings_say_otherwise(paper_settings) -> None:
    training = {"epochs": 9, "warmup": 7, "seeds": [4, 2]}
    own = {"ghn": {"warmup": 3}, "oneshot": {"epochs": 5, "warmup": None}}
    changes = {"training": training, **own, "ghns": {"more": {"epochs": 8}, "none": {"clip": None}}}
    config = validate(merged(paper_settings, changes), "the test")
    found = {"ghn": config.ghn, "oneshot": config.oneshot, **config.ghns}
    expected = {"ghn": (9, 3), "oneshot": (5, 7), "more": (8, 3), "none": (9, 3), "default": (9, 3)}
    assert {name: (found[name].epochs, found[name].warmup) for name in expected} == expected
    assert {one.clip for one in found.values()} == {5.0}
    assert all(one.seeds == [4, 2] for one in found.values())


def test_the_first_seed_has_the_name_of_the_entry(paper_settings) -> None:
    changes = {
        "training": {"seeds": [4, 2]},
        "ghns": {"alone": {"seeds": [7]}},
        "oneshot": {"seeds": [3, 0]},
        "correlation": {"ghns": ["alone", "default"]},
        "ablations": {"figure5a": [], "figure5b": [], "table5": []},
    }
    config = validate(merged(paper_settings, changes), "the test")
    assert config.trained == ["alone", "default", "default-2"]
    assert (config.first_ghns, config.seeds_of("default")) == (["alone"], ["default", "default-2"])
    seeds = {"alone": [7], "default": [4], "default-2": [2], "stacked-2": [2]}
    assert {name: config.models[name].seeds for name in seeds} == seeds
    assert {name: one.seeds for name, one in config.oneshots.items()} == {"3": [3], "0": [0]}
    one, other = (config.models[name].model_dump() for name in ("default", "default-2"))
    assert {key for key in one if one[key] != other[key]} == {"seeds"}


def test_an_entry_of_ghns_may_change_every_key_of_ghn() -> None:
    ghn = load([PARAMS]).ghn
    settings = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key in Ghn.model_fields:
        changes = {"ghns": {"mine": {key: ghn.model_dump()[key]}}}
        assert validate(merged(settings, changes), "the test").ghns["mine"] == ghn
