"""The command line as its users meet it: processes in a folder, their words and exit codes."""

import json
import re
import shutil
import signal
import subprocess
from importlib.metadata import version

import pytest
import torch
import yaml
from workplace import ROOT

from ghn_pipeline.cli import WITHOUT_SETTINGS, verbs
from ghn_pipeline.pipeline.stage import checkpoint_file
from ghn_pipeline.settings.config import load

pytestmark = pytest.mark.slow

#: with this every training belongs to another configuration
CHANGED = {"images": {"padding": 2}}


def assert_refused(done, verb, *words):
    """Exit code 1 and exactly one message on stderr, with all of `words`; no traceback."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"ghn {verb}: ")
    assert done.stderr.count(f"ghn {verb}: ") == 1
    assert "Traceback" not in done.stderr
    # one message: further lines, if any, are indented or belong to it
    assert "Error" not in done.stderr.splitlines()[-1].split(":")[0]
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def place(finished, tmp_path):
    """The finished run, to be spoilt."""
    return finished.copy_to(tmp_path / "place")


def config_of(place, changes=None):
    files = [place.folder / "params.yaml", place.folder / "presets/smoke.yaml"]
    if changes:
        (place.folder / "changes.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
        files.append(place.folder / "changes.yaml")
    return load(files)


# ---- help --------------------------------------------------------------------------------------


def test_help_names_every_verb(workplace):
    done = workplace.run("ghn", "--help")
    assert done.returncode == 0
    for verb in verbs():
        assert re.search(rf"^ +{verb}\s+[A-Z]", done.stdout, re.MULTILINE), verb


def test_the_version_is_that_of_the_package(workplace):
    assert workplace.run("ghn", "--version").stdout == f"ghn {version('ghn-pipeline')}\n"
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == version("ghn-pipeline")


def test_a_reader_that_ends_early_is_no_fault(workplace):
    """As with `ghn plan | head -1`."""
    process = workplace.start("ghn", "plan", "--config", "params.yaml", "presets/smoke.yaml")
    process.stdout.close()
    with process.stderr as said:
        assert said.read() == ""
    assert process.wait(60) == 128 + signal.SIGPIPE


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_verbs(workplace):
    """As bash calls it for `ghn sea` and the tabulator."""
    words = 'COMP_WORDS=(ghn sea); COMP_CWORD=1; _shtab_ghn ghn sea ghn; echo "${COMPREPLY[@]}"'
    done = workplace.run("bash", "-c", f'eval "$(ghn completion bash)"; {words}')
    assert done.stdout.split() == ["search", "search_curves"]


@pytest.mark.parametrize("verb", verbs())
def test_help_of_a_verb_says_what_it_reads_and_writes(verb, workplace):
    done = workplace.run("ghn", verb, "--help")
    assert done.returncode == 0
    assert "Reads " in done.stdout
    assert "Writes " in done.stdout
    assert ("--config" in done.stdout) == (verb not in WITHOUT_SETTINGS)
    assert done.stderr == ""


def test_an_unknown_verb_or_name_is_answered_with_the_nearest(workplace):
    done = workplace.run("ghn", "onehsot")
    assert done.returncode == 2
    assert done.stderr.endswith("there is no verb 'onehsot' (did you mean oneshot?)\n")
    for words, near in (
        (["ghn", "defualt"], "ghn/default"),
        (["scores", "ghn/stakced"], "scores/ghn/stacked"),
        (["scores", "onehsot/0"], "scores/oneshot/0"),
        (["search", "randm/0"], "search/random/0"),
        (["search", "random/00"], "search/random/0"),
        (["finalists", "tpo/0"], "finalists/top/0"),
    ):
        done = workplace.ghn(*words)
        assert_refused(done, words[0], f"(did you mean {near}?)")
    assert not (workplace.folder / "results").exists()


def test_no_verb_and_an_unknown_verb_are_usage(workplace):
    for words in ((), ("train",)):
        done = workplace.run("ghn", *words)
        assert done.returncode == 2
        assert "usage: ghn" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture(params=["C", "latin-1"])
def elsewhere(request, workplace, tmp_path):
    """A folder where the locale is not UTF-8, and Python does not make it so."""
    name = "C"
    if request.param == "latin-1":
        name = "xx.ISO-8859-1"
        if shutil.which("localedef") is None:
            pytest.skip("there is no localedef to make a Latin-1 locale with")
        words = ("localedef", "-i", "POSIX", "-f", "ISO-8859-1", str(tmp_path / name))
        subprocess.run(words, capture_output=True)
    settings = {"LC_ALL": name, "LOCPATH": str(tmp_path)}
    workplace.environment.update(settings, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    asked = ("python", "-c", "import locale; print(locale.getpreferredencoding())")
    assert workplace.run(*asked).stdout.strip() in ("ANSI_X3.4-1968", "ISO-8859-1")
    return workplace


def test_the_locale_does_not_matter(elsewhere):
    """params.yaml and titles have ×, messages have ±: neither is in every locale."""
    for words in (
        ["check"],
        ["plan"],
        ["architectures"],
        ["sgd", "0"],
        ["calibrate", "--samples", "5"],
    ):
        process = elsewhere.start(
            *("ghn", *words, "--config", "params.yaml", "presets/smoke.yaml"), encoding="latin-1"
        )
        said, wrong = process.communicate()
        assert process.returncode == 0, wrong
        assert "Traceback" not in wrong
    assert re.search(r"0\.\d\d (±|\\xb1) 0\.\d\d million", said)
    record = json.loads(
        (elsewhere.folder / "results/smoke/sgd/0/run.json").read_text(encoding="utf-8")
    )
    assert record["stage"] == "sgd/0"
    before = (elsewhere.folder / "params.yaml").read_text(encoding="utf-8")
    assert elsewhere.run("ghn", "configure", "presets/smoke.yaml").returncode == 0
    after = (elsewhere.folder / "params.yaml").read_text(encoding="utf-8")
    assert before.count("×") == after.count("×") > 0
    done = elsewhere.run("snakemake", "--cores", "1", "--dry-run", "--quiet")
    assert done.returncode == 0, done.stderr
    # a path that this locale cannot name is the user's to mend
    (elsewhere.folder / "path.yaml").write_text('data: {folder: "\\u20ac"}\n', encoding="utf-8")
    done = elsewhere.run("ghn", "check", "--config", "params.yaml", "path.yaml")
    assert_refused(done, "check", "data.folder", "LC_ALL=C.UTF-8")


# ---- earlier stages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "missing", "maker"),
    [
        (["ghn", "default"], "architectures", "ghn architectures"),
        (["sgd", "0"], "architectures", "ghn architectures"),
        (["scores", "oneshot/0"], "oneshot/0", "ghn oneshot 0"),
        (["scores", "ghn/default"], "ghn", "ghn ghn default"),
        (["table4"], "sgd/3", "ghn sgd 3"),
        (["table4"], "scores/ghn", "ghn scores ghn/default"),
        (["table4"], "scores/proxies", "ghn scores proxies"),
        (["scores", "proxies"], "architectures", "ghn architectures"),
        (["ablations"], "scores/ghn/stacked", "ghn scores ghn/stacked"),
        (["search", "evolution/0"], "ghn/default", "ghn ghn default"),
        (["search_curves"], "search/evolution/0", "ghn search evolution/0"),
        (["short", "0"], "search/random/0", "ghn search random/0"),
        (["winner"], "short/0", "ghn short 0"),
        (["finalists", "random/0"], "search/random/0", "ghn search random/0"),
        (["finalists", "best/0"], "winner", "ghn winner"),
        (["table1"], "finalists/random/0", "ghn finalists random/0"),
        (["table2"], "short/0", "ghn short 0"),
        (["export"], "finalists/best/0", "ghn finalists best/0"),
        (["mobile"], "winner", "ghn winner"),
        (["table3"], "mobile", "ghn mobile"),
    ],
)
def test_a_missing_artifact_names_the_command_that_makes_it(words, missing, maker, place):
    shutil.rmtree(place.folder / "results/smoke" / missing)
    done = place.ghn(*words)
    assert_refused(done, words[0], "results/smoke/" + missing, f"`{maker}`: run that first")


@pytest.mark.parametrize(
    ("words", "changes", "stale", "maker"),
    [
        (
            ["oneshot", "0"],
            {"seeds": {"test_architectures": 9}},
            "architectures",
            "ghn architectures",
        ),
        (["scores", "oneshot/0"], {"oneshot": {"clip": 1.0}}, "oneshot/0", "ghn oneshot 0"),
        (["table4"], {"sgd": {"epochs": 4}}, "sgd/0", "ghn sgd 0"),
        (["table4"], {"ghn": {"passes": 2}}, "ghn/default", "ghn ghn default"),
        (["table4"], {"proxies": {"batch": 32}}, "scores/proxies", "ghn scores proxies"),
        (["ablations"], {"evaluation": {"batch": 50}}, "sgd/0", "ghn sgd 0"),
        (["search", "random/0"], {"ghn": {"clip": 1.0}}, "ghn/default", "ghn ghn default"),
        (["winner"], {"sgd": {"epochs": 4}}, "short/0", "ghn short 0"),
        (
            ["finalists", "top/0"],
            {"search": {"evaluations": 11}},
            "search/random/0",
            "ghn search random/0",
        ),
        (
            ["table1"],
            {"finalists": {"epochs": 3}},
            "finalists/random/0",
            "ghn finalists random/0",
        ),
        (["table3"], {"mobile": {"epochs": 3}}, "mobile", "ghn mobile"),
    ],
)
def test_a_stale_stage_is_named(words, changes, stale, maker, place):
    done = place.ghn(*words, changes=changes)
    path = f"results/smoke/{stale}/run.json is stale"
    assert_refused(done, words[0], path, f"Run `{maker}` again")


def test_a_record_that_is_not_whole_is_named(place):
    path = place.folder / "results/smoke/oneshot/0/run.json"
    path.write_bytes(path.read_bytes()[:100])
    assert_refused(place.ghn("table4"), "table4", "oneshot/0/run.json is not whole JSON")


def test_an_index_or_name_that_is_not_there(place):
    assert_refused(place.ghn("sgd", "6"), "sgd", "sgd/6", "correlation.architectures")
    assert_refused(place.ghn("ghn", "big"), "ghn", "ghn/big", "one of models")
    assert_refused(place.ghn("scores", "ghn/big"), "scores", "ghn/big", "one of models")
    assert_refused(place.ghn("short", "99"), "short", "short/99", "finalists.ranks")


@pytest.mark.parametrize(
    ("verb", "name", "words"),
    [
        ("search", "random/9", ["random/9", "search.seeds"]),
        ("search", "nonsense/0", ["nonsense/0", "search/random/SEED"]),
        ("search", "random", ["search/random", "search.seeds"]),
        ("finalists", "top/99", ["top/99", "finalists.ranks"]),
        ("finalists", "best/9", ["best/9", "finalists.seeds"]),
        ("finalists", "best/00", ["best/00", "finalists.seeds"]),
        ("finalists", "nonsense/0", ["nonsense/0"]),
    ],
)
def test_a_search_or_finalist_that_is_not_configured(verb, name, words, workplace):
    assert_refused(workplace.ghn(verb, name), verb, *words)


@pytest.mark.parametrize(
    ("verb", "name"),
    [("search", "../../../../way/out"), ("finalists", "top/../../../../../way/out")],
)
def test_a_name_leads_out_of_no_folder(verb, name, workplace):
    done = workplace.ghn(verb, name)
    assert_refused(done, verb, name)
    assert list(workplace.folder.parent.rglob("out.log")) == []


@pytest.mark.parametrize("model", ["sgd/0", "nonsense"])
def test_a_model_that_cannot_score_is_refused(model, place):
    assert_refused(place.ghn("scores", model), "scores", model)


# ---- images ------------------------------------------------------------------------------------


@pytest.fixture
def copied_data(workplace, cifar10_folder):
    """A copy of the images to be spoilt, in a folder whose test architectures are drawn."""
    (workplace.folder / "data").unlink()
    (workplace.folder / "data").mkdir()
    path = workplace.folder / "data/cifar10.bin"
    shutil.copyfile(cifar10_folder / "cifar10.bin", path)
    assert workplace.ghn("architectures").returncode == 0
    yield path
    # pytest keeps the last folders, and this is large
    path.rmdir() if path.is_dir() else path.unlink()


def test_spoilt_images_are_refused(workplace, copied_data):
    with open(copied_data, "r+b") as file:
        file.seek(123_456_789)  # in the fifth batch
        byte = file.read(1)[0]
        file.seek(123_456_789)
        file.write(bytes([byte ^ 1]))
    for words in (["oneshot", "0"], ["data"]):
        done = workplace.ghn(*words)
        assert_refused(done, words[0], "data/cifar10.bin", "data_batch_5", "`ghn data`")

    with open(copied_data, "r+b") as file:
        file.truncate(100_000_000)
    done = workplace.ghn("sgd", "0")
    assert_refused(done, "sgd", "100000000 bytes instead of 184380000", "ghn data")

    copied_data.unlink()
    done = workplace.ghn("ghn", "default")
    assert_refused(done, "ghn", "No such file", "made by `ghn data`: run that first")

    copied_data.mkdir()  # not even root can read a folder as a file
    for words in (["oneshot", "0"], ["data"]):
        done = workplace.ghn(*words)
        assert_refused(done, words[0], "cannot read data/cifar10.bin", "Is a directory")


# ---- checkpoints and models --------------------------------------------------------------------


def test_a_checkpoint_of_another_configuration_is_refused(place):
    old = place.folder / checkpoint_file(config_of(place), "oneshot/0")
    new = place.folder / checkpoint_file(config_of(place, CHANGED), "oneshot/0")
    assert old != new
    shutil.copy(old, new)
    done = place.ghn("oneshot", "0", changes=CHANGED)
    assert_refused(done, "oneshot", new.name, "belongs to another configuration")


def test_a_truncated_checkpoint_is_refused(place):
    path = place.folder / checkpoint_file(config_of(place), "sgd/2")
    path.write_bytes(path.read_bytes()[:-1000])
    done = place.ghn("sgd", "2")
    assert_refused(done, "sgd", path.name, "not a whole checkpoint", "Delete it")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_truncated_model_is_refused(workers, place):
    path = place.folder / "results/smoke/ghn/default/model.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    shutil.rmtree(place.folder / "checkpoints/smoke/scores")
    done = place.ghn("scores", "ghn/default", changes={"compute": {"workers": workers}})
    assert_refused(done, "scores", "model.pt is not the file that was written", "ghn ghn default")


def test_scores_depend_on_neither_workers_nor_what_was_done(finished, place):
    shutil.rmtree(place.folder / "checkpoints/smoke/scores/ghn")
    shutil.rmtree(place.folder / "results/smoke/scores")
    done = place.ghn("scores", "ghn/default", changes={"compute": {"workers": 1}})
    assert done.returncode == 0, done.stderr
    name = "results/smoke/scores/ghn/default/scores.csv"
    assert (place.folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_a_finished_training_is_only_written_again(finished, place):
    shutil.rmtree(place.folder / "results/smoke/oneshot")
    done = place.ghn("oneshot", "0")
    assert done.returncode == 0, done.stderr
    model, curve = ("results/smoke/oneshot/0/" + name for name in ("model.pt", "curve.csv"))
    assert (place.folder / curve).read_bytes() == (finished.folder / curve).read_bytes()
    a, b = (torch.load(p.folder / model, weights_only=True)["model"] for p in (place, finished))
    assert all(torch.equal(a[name], b[name]) for name in b)


# ---- places and machines ------------------------------------------------------------------------


def test_results_that_cannot_be_written(workplace):
    (workplace.folder / "results").write_text("a file in the way", encoding="utf-8")
    done = workplace.ghn("architectures")
    assert_refused(done, "architectures", "cannot write results/smoke", "again")


def test_checkpoints_that_cannot_be_written(place):
    shutil.rmtree(place.folder / "checkpoints")
    (place.folder / "checkpoints").write_text("a file in the way", encoding="utf-8")
    assert_refused(place.ghn("oneshot", "0"), "oneshot", "cannot write checkpoints/smoke")


def test_the_papers_scale_asks_for_an_accelerator(workplace):
    done = workplace.run("ghn", "check")
    assert_refused(done, "check", "'paper'", "presets/quick.yaml", "presets/smoke.yaml")
    # who insists may
    (workplace.folder / "insist.yaml").write_text("cpu_is_enough: true\n", encoding="utf-8")
    done = workplace.run("ghn", "check", "--config", "params.yaml", "insist.yaml")
    assert done.returncode == 0, done.stderr
    assert "paper" in done.stdout


def test_a_device_that_is_not_there(workplace):
    done = workplace.ghn("check", changes={"compute": {"device": "cuda"}})
    assert_refused(done, "check", "compute.device is cuda")


def test_faults_of_the_configuration(workplace):
    done = workplace.ghn(
        "architectures", changes={"sgd": {"epoch": 1, "batch": "x", "momentum": 2.0}}
    )
    assert_refused(done, "architectures", "3 faults", "sgd.epoch:", "sgd.batch:", "sgd.momentum:")
    done = workplace.run("ghn", "architectures", "--config", "none.yaml")
    assert_refused(done, "architectures", "cannot read the configuration none.yaml")
    assert not (workplace.folder / "results").exists()


@pytest.mark.parametrize(
    ("preset", "words", "chapter"),
    [
        ("nasbench201", ["export"], "architecture_search"),
        ("nasbench201", ["short", "0"], "architecture_search"),
        ("nasbench201", ["finalists", "top/0"], "architecture_search"),
        ("nasbench201", ["memory"], "memory"),
        ("nasbench201", ["table3"], "transfer"),
        ("nasbench201", ["anytime", "msdnet"], "anytime_prediction"),
        ("anytime-smoke", ["oneshot", "0"], "correlation"),
        ("anytime-smoke", ["scores", "proxies"], "correlation"),
        ("anytime-smoke", ["winner"], "architecture_search"),
        ("anytime-smoke", ["mobile"], "transfer"),
        ("smoke", ["anytime_curves"], "anytime_prediction"),
        ("smoke", ["benchmark"], "benchmark"),
    ],
)
def test_a_verb_of_a_chapter_that_the_space_has_not_is_refused(preset, words, chapter, workplace):
    done = workplace.run("ghn", *words, "--config", "params.yaml", f"presets/{preset}.yaml")
    assert_refused(done, words[0], chapter, "which the space")
    assert not (workplace.folder / "results").exists()


def test_check_writes_nothing(workplace):
    before = sorted(workplace.folder.rglob("*"))
    done = workplace.ghn("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "smoke" in done.stdout
    assert sorted(workplace.folder.rglob("*")) == before


# ---- results -----------------------------------------------------------------------------------


def test_the_test_architectures_are_as_many_and_all_different(finished):
    text = (finished.folder / "results/smoke/architectures/architectures.json").read_text(
        encoding="utf-8"
    )
    drawn = json.loads(text)
    assert len(drawn) == len({entry["hash"] for entry in drawn}) == 6
    for entry in drawn:
        assert [op for op, _ in entry["block"][:2]] == ["input_1", "input_2"]
        assert len(entry["block"]) == 2 + 3  # inputs and space.nodes


def test_calibrate_says_what_it_measured(workplace):
    done = workplace.ghn("calibrate", "--samples", "5")
    assert done.returncode == 0
    assert re.search(r"5 random architectures at F=4, 2 blocks of 3 nodes: [\d.]+ ±", done.stdout)


def test_a_space_too_small_for_so_many_architectures_is_refused(workplace):
    # two nodes that read one input each, two operations: 4 blocks that read both inputs, not 5
    space = {"nodes": 2, "max_inputs": 1, "operations": ["identity", "conv_1x1"]}
    (workplace.folder / "few.yaml").write_text(yaml.safe_dump({"space": space}), encoding="utf-8")
    files = ("params.yaml", "presets/smoke.yaml", "few.yaml")
    process = workplace.start("ghn", "architectures", "--config", *files)
    try:
        _, said = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("it draws for ever")
    assert process.returncode == 1
    assert said.startswith("ghn architectures: ")
