"""The Slurm cluster for tests: it grants, fails, requeues and ends as a cluster does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import Cluster, wait_until

requires_slurm = pytest.mark.skipif(
    not slurm_cluster.installed(),
    reason="Slurm is not installed: python tests/slurm_cluster.py install",
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


def ends(cluster: Cluster, job: int) -> list[tuple[str, tuple[str, ...]]]:
    """How and where each run of the job ended, once it has completed."""

    def so_far() -> list[tuple[str, tuple[str, ...]]]:
        return [(end.state, end.nodes) for end in cluster.ended_jobs() if end.id == job]

    wait_until(lambda: "COMPLETED" in dict(so_far()), 60)
    return so_far()


def running(cluster: Cluster, count: int = 1) -> list[str]:
    """The nodes of the running jobs, once there are so many of them and each has begun."""
    wait_until(lambda: sum(bool(cluster.output(j.id)) for j in cluster.running_jobs()) == count, 60)
    return [node for job in cluster.running_jobs() for node in job.nodes]


def alive(pid: str) -> bool:
    state = Path(f"/proc/{int(pid)}/stat")
    return state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


@requires_slurm
def test_two_jobs_run_on_both_nodes_at_once(cluster):
    first, second = (cluster.submit("echo; sleep 60", f"--comment={i}") for i in range(2))
    assert sorted(running(cluster, 2)) == ["node1", "node2"]
    cluster.run("scancel", str(first), str(second))
    wait_until(lambda: len(cluster.ended_jobs()) == 2, 10)
    assert {(end.id, end.state, end.comment) for end in cluster.ended_jobs()} == {
        (first, "CANCELLED", "0"),
        (second, "CANCELLED", "1"),
    }


@requires_slurm
def test_gpus_are_granted_and_told_to_the_job(cluster):
    jobs = [cluster.submit("echo $CUDA_VISIBLE_DEVICES; sleep 2", "--gpus=1") for _ in range(4)]
    running(cluster, 4)
    assert sorted(cluster.output(job) for job in jobs) == ["0\n", "0\n", "1\n", "1\n"]


@requires_slurm
def test_the_job_of_a_killed_node_runs_again_on_the_other(cluster):
    job = cluster.submit("[ $SLURM_RESTART_COUNT ] || (setsid sleep 300 & echo $!; wait)")
    (node,) = running(cluster)
    pid = cluster.output(job)
    assert alive(pid)
    cluster.kill_node(node)
    assert not alive(pid)
    (other,) = set(slurm_cluster.NODES) - {node}
    assert ends(cluster, job) == [("NODE_FAIL", (node,)), ("COMPLETED", (other,))]
    cluster.start_node(node)
    again = cluster.submit("true", f"--nodelist={node}")
    assert ends(cluster, again) == [("COMPLETED", (node,))]


@requires_slurm
def test_a_preempted_job_runs_again(cluster):
    job = cluster.submit("echo; [ $SLURM_RESTART_COUNT ] || sleep 300", "--exclusive")
    (node,) = running(cluster)
    urgent = cluster.submit("true", "--partition=urgent", "--exclusive", f"--nodelist={node}")
    assert ends(cluster, urgent) == [("COMPLETED", (node,))]
    assert [state for state, _ in ends(cluster, job)] == ["PREEMPTED", "COMPLETED"]


@requires_slurm
def test_a_job_outlives_outages_of_the_controller_and_of_its_nodes_daemon(cluster):
    go_on = cluster.folder / "go on"
    job = cluster.submit(f"echo $$; until [ -e '{go_on}' ]; do sleep 0.1; done")
    (node,) = running(cluster)
    cluster.kill_daemon(node)
    cluster.restart_controller(down_seconds=1)
    cluster.start_node(node)
    assert running(cluster) == [node]
    assert alive(cluster.output(job))
    go_on.touch()
    assert ends(cluster, job) == [("COMPLETED", (node,))]


@requires_slurm
def test_nothing_runs_after_stop(tmp_path):
    with Cluster(tmp_path) as cluster:
        job = cluster.submit("trap '' TERM; echo $$; setsid sleep 300 & echo $!; sleep 300")
        running(cluster)
        wait_until(lambda: len(cluster.output(job).split()) == 2, 5)
        with pytest.raises(RuntimeError, match=r"runs in .* already"):
            cluster.start()
        daemons = [int(file.read_text(encoding="utf-8")) for file in tmp_path.glob("*.pid")]
        pids = [*map(str, daemons), *cluster.output(job).split()]
        assert len(pids) == 6
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    cluster.stop()


@requires_slurm
def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path):
    cluster = Cluster(tmp_path, cpus=-1)
    with pytest.raises(RuntimeError, match=r"slurmctld did not start:\n.*CPUs"):
        cluster.start()
    assert not alive((tmp_path / "munge.pid").read_text(encoding="utf-8"))


def test_install_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(slurm_cluster, "installed", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match=r"root.*slurmctld"):
        slurm_cluster.install()
