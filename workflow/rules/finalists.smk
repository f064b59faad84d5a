# The best by the GHN's scores, trained from scratch by many workers (section 7.3).

NODES = CONFIG.finalists.nodes
ON_EACH = CONFIG.finalists.workers // NODES  # workers of one node
FINALIST = {
    **TRAINING,
    "mem_mb": CONFIG.compute.memory_mb * ON_EACH,
    "cpus_per_task": CONFIG.compute.threads * ON_EACH,
}
if NODES > 1:
    # one job over several nodes: the command starts its workers through srun itself, which is
    # what `mpi` means to Snakemake; `gpu` would be a sum over nodes, to be shared out anyhow
    FINALIST |= {"mpi": "srun", "nodes": NODES, "tasks": NODES, "gpu": 0}
    FINALIST |= {"gres": f"gpu:{ON_EACH}", "tasks_per_gpu": 0} if GPU else {}
else:
    FINALIST["gpu"] = GPU * ON_EACH


rule train_finalist:
    input:
        DATA,
        rules.sample.output,
        f"{RESULTS}/scores/{FIRST}/run.json",
        not_stale("finalists/{rank}"),
    output:
        f"{RESULTS}/finalists/{{rank}}/model.pt",
        in_report(f"{RESULTS}/finalists/{{rank}}/curve.csv", "curve.rst", "Training", "finalist {rank}"),
        f"{RESULTS}/finalists/{{rank}}/run.json",
    params:
        settings=depends("finalists/{rank}"),
    benchmark:
        f"{RESULTS}/benchmarks/finalists/{{rank}}.tsv"
    threads: CONFIG.compute.threads * CONFIG.finalists.workers
    resources:
        **FINALIST,
    shell:
        ghn("train-finalist {wildcards.rank}")
