"""The workflow on a real Slurm of two nodes (tests/slurm_cluster.py), where jobs die in every way.

One run suffers all of it, one thing after another, and must end with the tables of a quiet run on
one machine.
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from slurm_cluster import Cluster, installed, wait_until

from ghn_pipeline.pipeline.tracking import WHEN

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not installed(), reason="Slurm is not installed: python tests/slurm_cluster.py install"
    ),
]

TABLES = (
    *("table4.csv", "table4.md", "table4.html", "table4.tex", "table4.json"),
    *("figure6.svg", "figure6.png"),
)
# the profile is made for clusters where a job takes hours; and each step is saved, so that there
# is always something to go on from
QUICKLY = (
    *("--slurm-init-seconds-before-status-checks", "1"),
    *("--max-status-checks-per-second", "1", "--latency-wait", "5"),
    *("--configfile", "presets/smoke.yaml", "save.yaml"),
)
SNAKEMAKE = ("snakemake", "--cores", "all", "--profile", "slurm", *QUICKLY)
# Table 4 and what a finalist over two nodes needs; the other chapters send jobs of the same kinds
TARGETS = ("--", "correlation", "results/smoke/finalists/top/0/model.pt")


@pytest.fixture(scope="module")
def cluster():
    # a short path, for sockets
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, Cluster(folder, cpus=3) as cluster:
        yield cluster


#: stages copied from the quiet run: one job of each kind is enough
THERE = ("architectures", *(f"sgd/{i}" for i in range(1, 5)), "scores/proxies")


@pytest.fixture(scope="module")
def place(workplaces, cluster, finished):
    place = workplaces("slurm")
    del place.environment[WHEN]
    for name in THERE:
        stage = Path("results/smoke", name)
        shutil.copytree(finished.folder / stage, place.folder / stage)
    path = place.environment["PATH"]
    place.environment |= {k: v for k, v in cluster.environment().items() if k == "SLURM_CONF"}
    place.environment["PATH"] = f"{cluster.folder}/bin{os.pathsep}{path}"
    (place.folder / "save.yaml").write_text("compute: {checkpoint_seconds: 0}\n", encoding="utf-8")
    return place


class Run:
    """A run of the workflow on the cluster, and what can be done to it."""

    def __init__(self, place, cluster, *targets):
        self.place, self.cluster, self.targets = place, cluster, targets
        self.held = set()  # processes that were frozen, and may be there still
        self.start()

    def start(self):
        """Start Snakemake, as a user types it."""
        with open(self.place.folder / "said.txt", "a", encoding="utf-8") as said:
            words = (*SNAKEMAKE, *self.targets)
            self.process = self.place.start(*words, stdout=said, stderr=said)

    def said(self):
        """What Snakemake printed, over all starts."""
        return (self.place.folder / "said.txt").read_text(encoding="utf-8")

    def log(self, stage):
        """What a stage said, over all of its jobs."""
        path = self.place.folder / "results/smoke/logs" / f"{stage}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def wait_for(self, condition, seconds=120):
        """Wait for something that happens while Snakemake runs."""

        def look():
            assert self.process.poll() is None, self.said()[-3000:]
            return condition()

        wait_until(look, seconds)

    def job(self, comment):
        """The running job of a rule."""
        (job,) = [j for j in self.cluster.running_jobs() if j.comment == comment]
        return job

    def step(self, stage):
        """The step that a training has saved last."""
        for path in (self.place.folder / "checkpoints/smoke").glob(f"{stage}-*.pt"):
            return torch.load(path, weights_only=True)["step"]
        return 0

    def freeze(self, *verbs):
        """Wait for a new process of each verb; freeze each as it starts, before it can end."""
        frozen = {}

        def look():
            for verb in set(verbs) - set(frozen):
                for process in set(self.place.processes(verb)) - self.held:
                    os.kill(process, signal.SIGSTOP)
                    self.held.add(process)
                    frozen[verb] = process
            return len(frozen) == len(verbs)

        self.wait_for(look)
        return [frozen[verb] for verb in verbs]

    def train(self, stage, process):
        """Let a frozen process train until it has saved, and freeze it there."""
        before = self.step(stage)
        os.kill(process, signal.SIGCONT)
        self.wait_for(lambda: self.step(stage) > before)
        os.kill(process, signal.SIGSTOP)

    def hold(self, stage, verb):
        """Wait until the next job has trained and saved; freeze it there, return its process."""
        (process,) = self.freeze(verb)
        self.train(stage, process)
        return process

    def end(self, seconds=400):
        """Wait for the end, which must be good."""
        assert self.process.wait(seconds) == 0, self.said()[-5000:]


GHN, ONESHOT = "rule_ghn_wildcards_default", "rule_oneshot_wildcards_0"


@pytest.fixture(scope="module")
def survived(place, cluster):
    """The run, after all that was done to it."""
    run = Run(place, cluster, *TARGETS)
    # both at once: either may be the first to start, and to end
    ghn, oneshot = run.freeze("ghn", "oneshot")
    run.train("ghn/default", ghn)
    run.train("oneshot/0", oneshot)
    # 1. a training's time is nearly over: told by Slurm, it saves, and the same job starts again
    cluster.run("scontrol", "update", f"JobId={run.job(ONESHOT).id}", "EndTime=now+75")
    run.wait_for(lambda: "stopped by SIGUSR1" in run.log("oneshot/0"))  # it is woken by Slurm
    # 2. the controller is away for a while
    cluster.restart_controller(down_seconds=3)
    # 3. somebody cancels a training: Snakemake sends another job
    cluster.run("scancel", str(run.job(GHN).id))
    run.wait_for(lambda: (GHN, "CANCELLED") in ends(cluster))
    # 4. a job of more weight takes its place: Slurm starts it again
    run.hold("ghn/default", "ghn")
    (node,) = run.job(GHN).nodes
    cluster.submit("true", "--partition=urgent", f"--nodelist={node}", "--exclusive")
    run.wait_for(lambda: (GHN, "PREEMPTED") in ends(cluster))
    # 5. its node crashes: Slurm starts it on the other one
    run.hold("ghn/default", "ghn")
    (node,) = run.job(GHN).nodes
    cluster.kill_node(node)
    run.wait_for(lambda: (GHN, "NODE_FAIL") in ends(cluster))
    cluster.start_node(node)
    # 6. Snakemake itself is killed; its jobs go on without it, and the next one's meet them
    ghn = run.hold("ghn/default", "ghn")
    run.process.kill()
    run.process.wait()
    unlocked = place.run("snakemake", "--unlock", "--cores", "all", "--profile", "slurm")
    assert unlocked.returncode == 0, unlocked.stderr
    run.start()
    run.wait_for(lambda: "waits for it" in run.log("ghn/default"))
    os.kill(ghn, signal.SIGCONT)
    run.end()
    return run


def ends(cluster):
    """What ended how: {(rule, state)}."""
    return {(job.comment, job.state) for job in cluster.ended_jobs()}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_a_quiet_run_on_one_machine(name, survived, finished):
    a, b = (p.folder / "results/smoke" / name for p in (survived.place, finished))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("model", ["oneshot/0", "ghn/default", "finalists/top/0"])
def test_the_weights_are_the_same(model, survived, finished):
    path = f"results/smoke/{model}/model.pt"
    a, b = (torch.load(p.folder / path, weights_only=True) for p in (survived.place, finished))
    assert all(torch.equal(a["model"][n], b["model"][n]) for n in b["model"])


def test_the_work_ran_as_jobs_on_both_nodes(survived):
    ended = [job for job in survived.cluster.ended_jobs() if job.state == "COMPLETED"]
    assert {node for job in ended for node in job.nodes} == {"node1", "node2"}
    for rule in ("ghn", "sgd", "scores", "table4", "finalists"):
        assert any(job.comment.startswith(f"rule_{rule}") for job in ended), rule
    # the finalist's two workers had a node each
    assert ("node1", "node2") in [
        job.nodes for job in ended if job.comment.startswith("rule_finalists")
    ]


def test_each_of_it_happened(survived):
    assert {(GHN, "CANCELLED"), (GHN, "PREEMPTED"), (GHN, "NODE_FAIL")} < ends(survived.cluster)
    assert "stopped by SIGUSR1" in survived.log("oneshot/0")
    assert "asked Slurm to start job" in survived.log("oneshot/0")
    assert "waits for it" in survived.log("ghn/default")


@pytest.mark.parametrize("stage", ["ghn/default", "oneshot/0"])
def test_trainings_went_on_from_their_checkpoints(stage, survived):
    log = survived.log(stage)
    starts = [int(step) for step in re.findall(r"goes on from step (\d+) of", log)]
    assert starts
    assert starts == sorted(starts)
    assert starts[0] >= 1


def test_one_mlflow_run_for_all_jobs_of_a_training(survived):
    from mlflow.tracking import MlflowClient

    folder = survived.place.folder
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'ghn-pipeline'")
    runs = client.search_runs([experiment.experiment_id])
    assert len({r.data.tags["stage"] for r in runs}) == len(runs)
    run = next(r for r in runs if r.data.tags["stage"] == "ghn/default")
    assert run.info.status == "FINISHED"
    record = json.loads((folder / "results/smoke/ghn/default/run.json").read_text(encoding="utf-8"))
    assert record["slurm_job"] in run.data.tags["slurm_job"].split(",")
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "loss")]
    assert len(steps) == len(set(steps)) > 0


def test_a_job_that_ran_out_of_time_without_warning_is_sent_again(place, cluster):
    (place.folder / "save.yaml").write_text(
        "compute: {checkpoint_seconds: 0}\noneshot: {clip: 4.0}\n", encoding="utf-8"
    )
    for path in (place.folder / "checkpoints/smoke").glob("oneshot/0-*.pt"):
        path.unlink()
    unwarned = "oneshot:slurm_extra=--open-mode=append"  # in the place of its --signal
    target = "results/smoke/oneshot/0/model.pt"
    run = Run(place, cluster, "--set-resources", unwarned, "--", target)
    run.hold("oneshot/0", "oneshot")
    saved = run.step("oneshot/0")
    cluster.run("scontrol", "update", f"JobId={run.job(ONESHOT).id}", "EndTime=now")
    run.wait_for(lambda: (ONESHOT, "TIMEOUT") in ends(cluster))
    run.end()
    assert int(re.findall(r"goes on from step (\d+) of", run.log("oneshot/0"))[-1]) >= saved


def test_jobs_ask_for_accelerators(place, cluster, survived):
    (place.folder / "save.yaml").write_text("cpu_is_enough: false\n", encoding="utf-8")
    forced = ("--forcerun", "oneshot", "finalists", "--retries", "0")
    models = ("results/smoke/oneshot/0/model.pt", "results/smoke/finalists/top/0/model.pt")
    before = {job.id for job in cluster.known_jobs()}
    run = Run(place, cluster, *forced, "--", *models)
    # the nodes have accelerators in name only, and the jobs say so
    assert run.process.wait(200) != 0
    for stage in ("oneshot/0", "finalists/top/0"):
        assert "takes weeks without an accelerator" in run.log(stage)
    new = [job for job in cluster.known_jobs() if job.id not in before]
    asked = {job.comment: cluster.run("scontrol", "show", "job", str(job.id)) for job in new}
    assert "TresPerJob=gres:gpu:1" in asked[ONESHOT]
    finalist = asked["rule_finalists_wildcards_top_0"]
    assert "TresPerNode=gres:gpu:1" in finalist
    assert "NumNodes=2" in finalist
