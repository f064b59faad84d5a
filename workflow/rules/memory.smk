# What a one-shot model and a GHN take as operations and nodes grow in number (section 7.1).


rule memory:
    input:
        not_stale("memory"),
    output:
        f"{RESULTS}/memory/memory.csv",
        f"{RESULTS}/memory/memory.png",
        f"{RESULTS}/memory/run.json",
        in_report(f"{RESULTS}/memory/memory.svg", "memory.rst", "Memory", "against K and N"),
    params:
        settings=depends("memory"),
    benchmark:
        f"{RESULTS}/benchmarks/memory.tsv"
    threads: CONFIG.compute.threads
    resources:
        **{**SCORING, "cpus_per_task": CONFIG.compute.threads},
    shell:
        ghn("memory")
