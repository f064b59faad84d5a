# Many architectures ranked by the first GHN: at random, and by evolution (sections 5.1.1 and 6).


rule run_search:
    input:
        DATA,
        DRAWN,
        f"{RESULTS}/{FIRST}/model.pt",
        not_stale("search/{search}"),
    output:
        f"{RESULTS}/search/{{search}}/architectures.json",
        f"{RESULTS}/search/{{search}}/curve.csv",
        f"{RESULTS}/search/{{search}}/run.json",
    params:
        settings=depends("search/{search}"),
    benchmark:
        f"{RESULTS}/benchmarks/search/{{search}}.tsv"
    threads: CONFIG.compute.workers or os.cpu_count()
    resources:
        **SCORING,
    shell:
        ghn("search {wildcards.search}")


SEARCHES = [stage.removeprefix("search/") for stage in stages.searches(CONFIG)]
CHOOSER = stages.chooser(CONFIG).removeprefix("search/")


rule search_curves:
    input:
        expand(rules.run_search.output, search=SEARCHES),
        not_stale("search_curves", record="search_curves.provenance.json"),
    output:
        multiext(f"{RESULTS}/search_curves", ".png", ".csv"),
        in_report(f"{RESULTS}/search_curves.svg", "search.rst", "Search", "best so far"),
        in_report(
            f"{RESULTS}/search_curves.provenance.json", "provenance.rst", "Search", "provenance"
        ),
    params:
        settings=depends("search_curves"),
    benchmark:
        f"{RESULTS}/benchmarks/search_curves.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("search-curves")


rule train_short:
    input:
        DATA,
        expand(rules.run_search.output, search=CHOOSER),
        not_stale("short/{rank}"),
    output:
        f"{RESULTS}/short/{{rank}}/curve.csv",
        f"{RESULTS}/short/{{rank}}/run.json",
    params:
        settings=depends("short/{rank}"),
    benchmark:
        f"{RESULTS}/benchmarks/short/{{rank}}.tsv"
    threads: CONFIG.compute.threads
    # others wait for the winner
    priority: 5
    resources:
        **TRAINING,
    shell:
        ghn("train-short {wildcards.rank}")


rule choose:
    input:
        expand(rules.run_search.output, search=CHOOSER),
        expand(rules.train_short.output, rank=CONFIG.finalists.ranks),
        not_stale("winner"),
    output:
        f"{RESULTS}/winner/run.json",
    params:
        settings=depends("winner"),
    benchmark:
        f"{RESULTS}/benchmarks/winner.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("choose")
