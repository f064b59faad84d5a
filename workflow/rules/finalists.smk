# The search's best, random ones and the winner, trained by the full recipe: Tables 1 and 2; the
# winner exported (sections 5.1.1, 7.3 and 7.5).


def chosen_by(wildcards):
    """What says which architecture a finalist is."""
    if wildcards.finalist.startswith("best/"):
        return rules.choose.output
    return expand(rules.run_search.output, search=CHOOSER)


rule train_finalist:
    input:
        DATA,
        chosen_by,
        not_stale("finalists/{finalist}"),
    output:
        f"{RESULTS}/finalists/{{finalist}}/model.pt",
        in_report(
            f"{RESULTS}/finalists/{{finalist}}/curve.csv", "curve.rst", "Training", "{finalist}"
        ),
        f"{RESULTS}/finalists/{{finalist}}/run.json",
    params:
        settings=depends("finalists/{finalist}"),
    benchmark:
        f"{RESULTS}/benchmarks/finalists/{{finalist}}.tsv"
    threads: CONFIG.compute.threads * CONFIG.finalists.processes
    resources:
        **processes_of(CONFIG.finalists),
    shell:
        ghn("train-finalist {wildcards.finalist}")


COST = [f"{RESULTS}/{FIRST}/run.json", *expand(rules.run_search.output, search=CHOOSER)]
SHORT_COST = [*COST, *expand(rules.train_short.output, rank=CONFIG.finalists.ranks)]


rule table1:
    input:
        COST,
        expand(
            rules.train_finalist.output,
            finalist=[f"{group}/{r}" for group in ("top", "random") for r in CONFIG.finalists.ranks],
        ),
        not_stale("table1", record="table1.provenance.json"),
    output:
        multiext(f"{RESULTS}/table1", ".csv", ".md", ".tex"),
        in_report(f"{RESULTS}/table1.html", "table1.rst", "Tables 1 and 2", "Table 1"),
        in_report(
            f"{RESULTS}/table1.provenance.json", "provenance.rst", "Tables 1 and 2", "provenance, Table 1"
        ),
    params:
        settings=depends("table1"),
    benchmark:
        f"{RESULTS}/benchmarks/table1.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("table1")


rule table2:
    input:
        SHORT_COST,
        rules.choose.output,
        expand(rules.train_finalist.output, finalist=[f"best/{s}" for s in CONFIG.finalists.seeds]),
        not_stale("table2", record="table2.provenance.json"),
    output:
        multiext(f"{RESULTS}/table2", ".csv", ".md", ".tex"),
        in_report(f"{RESULTS}/table2.html", "table2.rst", "Tables 1 and 2", "Table 2"),
        in_report(
            f"{RESULTS}/table2.provenance.json", "provenance.rst", "Tables 1 and 2", "provenance, Table 2"
        ),
    params:
        settings=depends("table2"),
    benchmark:
        f"{RESULTS}/benchmarks/table2.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("table2")


EXPORTED = stages.exported(CONFIG)


rule export:
    input:
        DATA,
        rules.choose.output,
        multiext(f"{RESULTS}/{EXPORTED}/", "model.pt", "run.json"),
        not_stale("export"),
    output:
        multiext(f"{RESULTS}/export/", "architecture.json", "model.pt", "model.onnx", "run.json"),
        in_report(f"{RESULTS}/export/figure7.svg", "figure7.rst", "Figure 7", "the best block"),
        f"{RESULTS}/export/figure7.png",
    params:
        settings=depends("export"),
    benchmark:
        f"{RESULTS}/benchmarks/export.tsv"
    resources:
        mem_mb=3000,
        runtime=20,
    shell:
        ghn("export")
