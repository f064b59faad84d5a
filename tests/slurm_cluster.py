"""A real Slurm cluster of two nodes on this one machine, for tests and for trying things out.

    python tests/slurm_cluster.py install         # Debian or Ubuntu, as root
    python tests/slurm_cluster.py start FOLDER    # prints the line that puts sbatch etc. on PATH
    python tests/slurm_cluster.py stop FOLDER

The daemons are the distribution's own; everything they write lies under FOLDER, they listen on
free ports, and starting them needs no root. The nodes, `node1` and `node2`, pose as having 4 CPUs,
16 GB and 2 GPUs each. Jobs in partition `main` are put back into the queue when their node fails
or when a job in partition `urgent` needs their place. There is no accounting database: what ended
where is in FOLDER/log/jobs.txt. FOLDER's path must be short (sockets) and without spaces. Seen to
work with Debian 12's Slurm 22.05.

In tests:

    with Cluster(tmp_path) as cluster:
        job = cluster.submit("sleep 60", "--gpus=1")
        cluster.kill_node("node1")
"""

import argparse
import ctypes
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

NODES = ("node1", "node2")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
PROGRAMS = ("/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch")
# the last three say that there is no accounting
CLIENTS = "sbatch srun squeue sinfo scancel scontrol sacct sacctmgr sshare"
POLICY = Path("/usr/sbin/policy-rc.d")

# What is not obvious:
# - cred_expire is also how long a requeued job waits (120 s unless set).
# - config_overrides believes the nodes' CPUs and memory as written here.
# - linuxproc and task/none need neither root nor cgroups.
# - LLN: the least loaded node first, so that jobs spread over both.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
{listen}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobs.txt
AccountingStorageType=accounting_storage/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=6
MessageTimeout=5
ReturnToService=2
KillWait=5
MinJobAge=600
OverTimeLimit=0
GresTypes=gpu
NodeName=DEFAULT CPUs={cpus} RealMemory={memory} Gres=gpu:2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=DEFAULT Nodes=ALL LLN=YES MaxTime=60 DefaultTime=10 DefMemPerCPU=500
PartitionName=main Default=YES PriorityTier=1
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""
OTHER_FILES = {
    "cgroup.conf": "CgroupPlugin=cgroup/v1\n",  # read though unused; other values need systemd
    # any character devices will do
    "gres.conf": "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n",
}


@dataclass(frozen=True)
class Job:
    """A job as Slurm tells it: the nodes are those that it runs or ran on."""

    id: int
    name: str
    state: str
    nodes: tuple[str, ...]
    comment: str


class Cluster:
    """A cluster under `folder`; any process may hold one for the same folder."""

    def __init__(self, folder: Path | str, cpus: int = 4, memory: int = 16000) -> None:
        self.folder = Path(folder).resolve()
        self.cpus = cpus
        self.memory = memory

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- start and stop ------------------------------------------------------------------------

    def start(self) -> None:
        """Start all daemons and wait until both nodes take jobs; if that fails, stop them again."""
        if self._keepers():
            raise RuntimeError(f"a cluster runs in {self.folder} already")
        self._configure()
        try:
            self._start_munge()
            self._start_controller("-c")
            for node in NODES:
                self.start_node(node)
            for node in NODES:
                self._wait_for(node, partial(self._idle, node))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all jobs, then all daemons; safe to call twice, or after half a start."""
        if self._controller_answers():
            with suppress(RuntimeError, TimeoutError):
                self.run("scancel", f"--user={os.getuid()}")
                wait_until(lambda: not self._processes("slurmstepd"), 8)
        _kill(self._keepers())

    def _configure(self) -> None:
        """Write every file that the daemons and the clients read."""
        for name in ("bin", "log", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        host = socket.gethostname().split(".")[0]
        conf = SLURM_CONF.format(
            **vars(self),
            host=host,
            user=os.getuid(),
            ports=_free_ports(1 + len(NODES)),
            listen=_listen(host),
        )
        for name, text in {"slurm.conf": conf, **OTHER_FILES}.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / "log/jobs.txt").write_text("", encoding="utf-8")
        for name in CLIENTS.split():  # wrapped, as Snakemake's jobs drop SLURM_CONF but keep PATH
            file = self.folder / "bin" / name
            command = f'SLURM_CONF={self.folder}/slurm.conf exec /usr/bin/{name} "$@"'
            file.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
            file.chmod(0o755)

    def _start_munge(self) -> None:
        """Start the daemon by which Slurm's parts know each other, with a key of its own."""
        key, place = self.folder / "munge.key", self.folder / "munge.socket"
        for left_over in (key, place):
            left_over.unlink(missing_ok=True)
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"key-file": key, "socket": place}
        files |= {f"{name}-file": self.folder / f"munge.{name}" for name in ("pid", "seed")}
        options = [f"--{option}={file}" for option, file in files.items()]
        self._keep("munged", "/usr/sbin/munged", "--foreground", "--force", *options)
        self._wait_for("munged", place.is_socket)

    def _start_controller(self, *options: str) -> None:
        self._keep("slurmctld", "/usr/sbin/slurmctld", *options)
        self._wait_for("slurmctld", self._controller_answers)

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait for a daemon, or raise with the end of its log."""
        with suppress(TimeoutError):
            wait_until(lambda: ready() or not self._keepers(name), 60)
        if not ready():
            log = self.folder / "log" / f"{name}.log"
            said = log.read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"{name} did not start:\n{said}")

    def _idle(self, node: str) -> bool:
        return self.run("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T") == "idle\n"

    def _controller_answers(self) -> bool:
        scontrol = self.folder / "bin/scontrol"
        ping = [str(scontrol), "ping"]
        return scontrol.exists() and not subprocess.run(ping, capture_output=True).returncode

    # ---- jobs ----------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The environment for programs that call the cluster; not that of a job we may be in."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        path = f"{self.folder}/bin:{os.environ.get('PATH', os.defpath)}"
        return kept | {"PATH": path, "SLURM_CONF": f"{self.folder}/slurm.conf"}

    def run(self, *words: str) -> str:
        """Run a client command, such as run("squeue", "--long"), and return what it prints."""
        done = subprocess.run(
            words, env=self.environment(), capture_output=True, text=True, encoding="utf-8"
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, script: str, *options: str) -> int:
        """Submit a line of shell as a batch job and return its number; see `output`."""
        output = f"--output={self.folder}/log/job-%j.txt"
        return int(self.run("sbatch", "--parsable", output, *options, "--wrap", script))

    def output(self, job: int) -> str:
        """What a submitted job printed so far."""
        file = self.folder / f"log/job-{job}.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def known_jobs(self) -> list[Job]:
        """All jobs that the controller still knows: waiting, running and lately ended ones."""
        rows = self.run("squeue", "--noheader", "--states=all", "--format=%A\t%j\t%T\t%N\t%k")
        fields = (row.split("\t") for row in rows.splitlines())
        return [
            Job(int(number), name, state, _nodes(nodes), "" if comment == "(null)" else comment)
            for number, name, state, nodes, comment in fields
        ]

    def running_jobs(self) -> list[Job]:
        """The jobs that are running."""
        return [job for job in self.known_jobs() if job.state == "RUNNING"]

    def ended_jobs(self) -> list[Job]:
        """Every end of a job, oldest first: one that is requeued has several.

        Requeued by `scontrol requeue`, it is told as PENDING with the nodes that it was on.
        """
        file = self.folder / "log/jobs.txt"
        comments = {job.id: job.comment for job in self.known_jobs()}
        pattern = r"JobId=(\d+) .*? Name=(.*) JobState=(\w+) .* NodeList=(.*) NodeCnt="
        return [
            Job(int(number), name, state, _nodes(nodes), comments.get(int(number), ""))
            for number, name, state, nodes in re.findall(pattern, file.read_text(encoding="utf-8"))
        ]

    # ---- failures ------------------------------------------------------------------------------

    def kill_node(self, name: str) -> None:
        """Let a node crash: its daemon and its jobs' processes are gone at once.

        After about 15 seconds it is DOWN and its jobs are requeued; 6 later they start elsewhere.
        """
        _kill(self._keepers(name))

    def kill_daemon(self, name: str) -> None:
        """Kill a node's daemon only; its jobs go on."""
        for pid in self._processes("slurmd", name):
            os.kill(pid, signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Start the daemon of a node that was killed."""
        self._keep(name, "/usr/sbin/slurmd", "-N", name)

    def restart_controller(self, down_seconds: float = 0) -> None:
        """Stop the controller, and start it again after a while; jobs go on meanwhile.

        It is asked to end: killed, it would forget jobs of the last few seconds.
        """
        for pid in self._processes("slurmctld"):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self._keepers("slurmctld"), 20)
        time.sleep(down_seconds)
        self._start_controller()

    # ---- processes -----------------------------------------------------------------------------

    def _keep(self, name: str, *command: str) -> None:
        """Start a daemon in the background under a keeper of its own."""
        with open(self.folder / "log" / f"{name}.log", "a", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-IS", __file__, "keep", str(self.folder), name, *command],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def _keepers(self, name: str | None = None) -> list[int]:
        """The processes of `keep` for this cluster, or for one of its daemons."""
        words = ["keep", str(self.folder)] + ([name] if name else [])
        return [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if _read(entry / "cmdline").split("\0")[3 : 3 + len(words)] == words
        ]

    def _processes(self, program: str, keeper: str | None = None) -> list[int]:
        """The processes of a program below all keepers, or below those of one name."""
        pids = _descendants(self._keepers(keeper))
        return [pid for pid in pids if _read(Path(f"/proc/{pid}/comm")).strip() == program]


def keep(command: list[str]) -> None:
    """Run a daemon as the parent of all that it and its jobs ever start, until the last has ended.

    Without it, a process whose parent ends would be handed to the system's first process, and
    nothing would tell which node it was on.
    """
    if os.fork():
        return
    os.setsid()
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    os.posix_spawn(command[0], command, os.environ)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Wait until the condition holds, or raise TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"still not so after {seconds} seconds")
        time.sleep(0.05)


def installed() -> bool:
    """Whether Slurm's programs are there."""
    return all(map(os.path.exists, PROGRAMS))


def install() -> None:
    """Install the distribution's packages, without starting daemons of the system's own."""
    if installed():
        return
    if os.geteuid() or not shutil.which("apt-get"):
        sys.exit(f"Needs root on Debian or Ubuntu, to install: {' '.join(PACKAGES)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_daemons_started():
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            if subprocess.run(["apt-get", "--quiet", *words], env=environment).returncode:
                sys.exit(f"apt-get {words[0]} failed")


@contextmanager
def _no_daemons_started() -> Iterator[None]:
    """Let packages' scripts start no daemon, unless the system has a rule for that already."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _free_ports(count: int) -> list[int]:
    """Free ports below those that the system gives to clients: free again after an outage."""
    candidates = random.SystemRandom().sample(range(10_000, 32_768), 1000)
    return list(islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("", port))
        return True
    return False


def _listen(host: str) -> str:
    """The line that lets daemons listen on 127.0.0.1 only, if the host's own name stands for it.

    They would listen on what that name stands for, while the nodes are known as 127.0.0.1.
    """
    with suppress(OSError):
        if socket.gethostbyname(host) == "127.0.0.1":
            return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
    return ""


def _nodes(names: str) -> tuple[str, ...]:
    """The nodes in Slurm's notation for several: node1, or node[1-2]."""
    return tuple(f"node{digit}" for digit in re.findall(r"\d", names))


def _read(path: Path) -> str:
    """A file of /proc; nothing if its process is gone or another's."""
    try:
        return path.read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""


def _descendants(pids: Iterable[int]) -> list[int]:
    """The processes below these, parents first."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        if fields := _read(file).rpartition(")")[2].split():  # a name may hold blanks
            children.setdefault(int(fields[1]), []).append(int(file.parent.name))
    found = [child for pid in pids for child in children.get(pid, [])]
    for pid in found:  # grows on the way
        found += children.get(pid, [])
    return found


def _kill(keepers: Iterable[int]) -> None:
    """Kill all below these keepers, each of which ends when nothing is left below it."""
    while alive := [pid for pid in keepers if _read(Path(f"/proc/{pid}/cmdline"))]:
        for pid in _descendants(alive):  # parents first, so that none can tell of a child's end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["keep"]:  # FOLDER and NAME only tell this process from others
        return keep(sys.argv[4:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install", help="install the packages (as root)")
    verbs.add_parser("start", help="start a new cluster").add_argument("folder")
    verbs.add_parser("stop", help="end its jobs and its daemons").add_argument("folder")
    args = parser.parse_args()
    if args.verb == "install":
        install()
    elif args.verb == "stop":
        Cluster(args.folder).stop()
    elif not installed():
        sys.exit("Slurm is not installed: python tests/slurm_cluster.py install")
    else:
        cluster = Cluster(args.folder)
        try:
            cluster.start()
        except RuntimeError as error:
            sys.exit(str(error))
        print(f"export PATH={cluster.folder}/bin:$PATH")


if __name__ == "__main__":
    main()
