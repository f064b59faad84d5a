# Predicted against true accuracy: Table 4 and Figure 6 (sections 5.3 and 7.4).


rule score:
    input:
        DATA,
        rules.sample.output,
        f"{RESULTS}/{{model}}/model.pt",
    output:
        f"{RESULTS}/scores/{{model}}/scores.csv",
        f"{RESULTS}/scores/{{model}}/run.json",
    params:
        settings=depends("scores/{model}"),
    log:
        f"{RESULTS}/logs/scores/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/scores/{{model}}.tsv"
    # as many processes as there are cores or devices
    threads: workflow.cores
    resources:
        **LARGE,
    shell:
        ghn("score {wildcards.model} --workers {threads}")


# the first GHN stands in Table 4
FIRST = f"ghn/{next(iter(CONFIG.ghns))}"


rule table4:
    input:
        expand(rules.train_sgd.output, index=INDICES),
        [f"{RESULTS}/{model}/run.json" for model in ("oneshot", FIRST)],
        [f"{RESULTS}/scores/{model}/run.json" for model in ("oneshot", FIRST)],
    output:
        multiext(f"{RESULTS}/table4", ".csv", ".md", ".tex", ".provenance.json"),
        multiext(f"{RESULTS}/figure6", ".png", ".svg"),
    params:
        settings=depends("table4"),
    log:
        f"{RESULTS}/logs/table4.log",
    benchmark:
        f"{RESULTS}/benchmarks/table4.tsv"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        ghn("table4")
