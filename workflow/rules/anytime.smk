# Anytime prediction: networks with exits, trained; Figures 3, 4 and 8 to 10 (sections 5.2, 7.3 and 7.5.2).

ANYTIME_FIGURES = (3, 4, 8, 9, 10)


def anytime_chosen_by(wildcards):
    """What says which architecture a network with exits is of; rivals have none."""
    if wildcards.network == "best":
        return [
            *expand(rules.run_search.output, search=CHOOSER),
            *(
                f"{RESULTS}/anytime/top/{rank}/{file}"
                for rank in CONFIG.anytime.top
                for file in ("model.pt", "curve.csv", "run.json")
            ),
        ]
    if wildcards.network.startswith("top/"):
        return expand(rules.run_search.output, search=CHOOSER)
    return rules.sample.output if wildcards.network.startswith("random/") else []


rule train_anytime:
    input:
        DATA,
        anytime_chosen_by,
        not_stale("anytime/{network}"),
    output:
        f"{RESULTS}/anytime/{{network}}/model.pt",
        in_report(f"{RESULTS}/anytime/{{network}}/curve.csv", "curve.rst", "Training", "{network}"),
        f"{RESULTS}/anytime/{{network}}/run.json",
    params:
        settings=depends("anytime/{network}"),
    benchmark:
        f"{RESULTS}/benchmarks/anytime/{{network}}.tsv"
    threads: CONFIG.compute.threads
    # the best waits for the top ones
    priority: lambda wildcards: 5 if wildcards.network.startswith("top/") else 0
    resources:
        **TRAINING,
    shell:
        ghn("train-anytime {wildcards.network}")


rule anytime_curves:
    input:
        DATA,
        rules.sample.output,
        expand(rules.run_search.output, search=CHOOSER),
        f"{RESULTS}/{FIRST}/model.pt",
        [f"{RESULTS}/scores/{FIRST}/{file}" for file in ("scores.csv", "run.json")],
        expand(rules.train_anytime.output, network=stages.anytime_trainings(CONFIG)),
        not_stale("anytime_curves", record="anytime_curves.provenance.json"),
    output:
        multiext(f"{RESULTS}/anytime", ".csv", ".md", ".tex"),
        multiext(f"{RESULTS}/areas", ".csv", ".md", ".tex"),
        expand(f"{RESULTS}/figure{{n}}.png", n=ANYTIME_FIGURES),
        f"{RESULTS}/anytime_curves.json",
        multiext(f"{RESULTS}/anytime_export/", "architecture.json", "model.pt"),
        in_report(f"{RESULTS}/anytime.html", "anytime.rst", "Anytime prediction", "networks"),
        in_report(f"{RESULTS}/areas.html", "anytime.rst", "Anytime prediction", "areas"),
        [
            in_report(f"{RESULTS}/figure{n}.svg", "anytime.rst", "Anytime prediction", f"Figure {n}")
            for n in ANYTIME_FIGURES
        ],
        in_report(
            f"{RESULTS}/anytime_curves.provenance.json",
            "provenance.rst",
            "Anytime prediction",
            "provenance",
        ),
    params:
        settings=depends("anytime_curves"),
    benchmark:
        f"{RESULTS}/benchmarks/anytime_curves.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("anytime-curves")
