# What matters in a GHN: Figures 5a and 5b, Table 5 (section 5.4). Each GHN is an entry of `ghns`.


rule ablations:
    input:
        expand(rules.train_sgd.output, index=CONFIG.correlation.architectures),
        expand(f"{RESULTS}/scores/ghn/{{ghn}}/{{file}}", ghn=CONFIG.correlation.ghns, file=["scores.csv", "run.json"]),
        not_stale("ablations", record="ablations.provenance.json"),
    output:
        multiext(f"{RESULTS}/figure5a", ".csv", ".md", ".tex", ".html", ".png"),
        multiext(f"{RESULTS}/figure5b", ".csv", ".md", ".tex", ".html", ".png"),
        multiext(f"{RESULTS}/table5", ".csv", ".md", ".tex"),
        f"{RESULTS}/ablations.json",
        in_report(f"{RESULTS}/table5.html", "table5.rst", "Ablations", "Table 5"),
        in_report(f"{RESULTS}/figure5a.svg", "figure5.rst", "Ablations", "Figure 5a"),
        in_report(f"{RESULTS}/figure5b.svg", "figure5.rst", "Ablations", "Figure 5b"),
        in_report(
            f"{RESULTS}/ablations.provenance.json", "provenance.rst", "Ablations", "provenance"
        ),
    params:
        settings=depends("ablations"),
    benchmark:
        f"{RESULTS}/benchmarks/ablations.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("ablations")
