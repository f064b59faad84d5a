# What gives weights: graph hypernetworks (sections 4 and 7.2), the one-shot model and SGD (5.3).


rule train_ghn:
    input:
        DATA,
        rules.sample.output,
        not_stale("ghn/{ghn}"),
    output:
        f"{RESULTS}/ghn/{{ghn}}/model.pt",
        in_report(f"{RESULTS}/ghn/{{ghn}}/curve.csv", "curve.rst", "Training", "GHN {ghn}"),
        f"{RESULTS}/ghn/{{ghn}}/run.json",
    params:
        settings=depends("ghn/{ghn}"),
    benchmark:
        f"{RESULTS}/benchmarks/ghn/{{ghn}}.tsv"
    threads: CONFIG.compute.threads
    # the longest jobs start first
    priority: 10
    resources:
        **TRAINING,
    shell:
        ghn("train-ghn {wildcards.ghn}")


rule train_oneshot:
    input:
        DATA,
        rules.sample.output,
        not_stale("oneshot"),
    output:
        f"{RESULTS}/oneshot/model.pt",
        in_report(f"{RESULTS}/oneshot/curve.csv", "curve.rst", "Training", "one-shot model"),
        f"{RESULTS}/oneshot/run.json",
    params:
        settings=depends("oneshot"),
    benchmark:
        f"{RESULTS}/benchmarks/oneshot.tsv"
    threads: CONFIG.compute.threads
    priority: 10
    resources:
        **TRAINING,
    shell:
        ghn("train-oneshot")


rule train_sgd:
    input:
        DATA,
        rules.sample.output,
        not_stale("sgd/{index}"),
    output:
        f"{RESULTS}/sgd/{{index}}/curve.csv",
        f"{RESULTS}/sgd/{{index}}/run.json",
    params:
        settings=depends("sgd/{index}"),
    benchmark:
        f"{RESULTS}/benchmarks/sgd/{{index}}.tsv"
    threads: CONFIG.compute.threads
    resources:
        **TRAINING,
    shell:
        ghn("train-sgd {wildcards.index}")
