# Predicted against true accuracy: Table 4 and Figure 6 (sections 5.3 and 7.4).


def model_of(wildcards):
    return [] if wildcards.model in stages.UNTRAINED else f"{RESULTS}/{wildcards.model}/model.pt"


rule score:
    input:
        DATA,
        DRAWN,
        model_of,
        not_stale("scores/{model}"),
    output:
        f"{RESULTS}/scores/{{model}}/scores.csv",
        f"{RESULTS}/scores/{{model}}/run.json",
    params:
        settings=depends("scores/{model}"),
    benchmark:
        f"{RESULTS}/benchmarks/scores/{{model}}.tsv"
    # as many processes as there are cores (no more than --cores says), unless it is said
    threads: CONFIG.compute.workers or os.cpu_count()
    resources:
        **SCORING,
    shell:
        ghn("score {wildcards.model}")


# the GHN that stands in Table 4
FIRST = stages.first_ghn(CONFIG)


rule table4:
    input:
        expand(rules.train_sgd.output, index=CONFIG.correlation.architectures),
        [f"{RESULTS}/{model}/run.json" for model in ("oneshot", FIRST)],
        [f"{RESULTS}/scores/{model}/run.json" for model in ("oneshot", "proxies", FIRST)],
        not_stale("table4", record="table4.provenance.json"),
    output:
        multiext(f"{RESULTS}/table4", ".csv", ".md", ".tex", ".json"),
        in_report(f"{RESULTS}/table4.html", "table4.rst", "Table 4", "the table"),
        in_report(f"{RESULTS}/table4.provenance.json", "provenance.rst", "Table 4", "provenance"),
        in_report(f"{RESULTS}/figure6.svg", "figure6.rst", "Figure 6", "the figure"),
        f"{RESULTS}/figure6.png",
    params:
        settings=depends("table4"),
    benchmark:
        f"{RESULTS}/benchmarks/table4.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("table4")
