# Held against accuracies that others published: NAS-Bench-201, which is no part of the paper.


rule benchmark:
    input:
        rules.sample.output,
        [f"{RESULTS}/{stage}/{file}" for stage in stages.compared(CONFIG) for file in ("scores.csv", "run.json")],
        expand(rules.train_ghn.output, ghn=CONFIG.correlation.ghns),
        [f"{RESULTS}/oneshot/{file}" for file in ("model.pt", "run.json")],
        f"{RESULTS}/{stages.chooser(CONFIG)}/architectures.json",
        f"{RESULTS}/{stages.chooser(CONFIG)}/run.json",
        not_stale("benchmark", record="benchmark.provenance.json"),
    output:
        multiext(f"{RESULTS}/benchmark", ".csv", ".md", ".tex", ".json", ".png"),
        multiext(f"{RESULTS}/winners", ".csv", ".md", ".tex"),
        in_report(f"{RESULTS}/benchmark.html", "benchmark.rst", "Benchmark", "the table"),
        in_report(f"{RESULTS}/winners.html", "benchmark.rst", "Benchmark", "the winners"),
        in_report(f"{RESULTS}/benchmark.svg", "benchmark.rst", "Benchmark", "the figure"),
        in_report(f"{RESULTS}/benchmark.provenance.json", "provenance.rst", "Benchmark", "provenance"),
    params:
        settings=depends("benchmark"),
    benchmark:
        f"{RESULTS}/benchmarks/benchmark.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("benchmark")
