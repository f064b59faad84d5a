# The winner's block as an ImageNet-mobile network: Table 3 (sections 5.1.2 and 7.3).

# without ImageNet the network is only counted
LOADERS = CONFIG.compute.loaders
MOBILE = processes_of(CONFIG.mobile, LOADERS) if CONFIG.mobile.folder else LIGHT


rule train_mobile:
    input:
        rules.choose.output,
        not_stale("mobile"),
    output:
        f"{RESULTS}/mobile/run.json",
    params:
        settings=depends("mobile"),
    benchmark:
        f"{RESULTS}/benchmarks/mobile.tsv"
    threads: CONFIG.compute.threads * (CONFIG.mobile.processes if CONFIG.mobile.folder else 1)
    resources:
        **MOBILE,
    shell:
        ghn("train-mobile")


rule table3:
    input:
        SHORT_COST,
        rules.choose.output,
        rules.train_mobile.output,
        not_stale("table3", record="table3.provenance.json"),
    output:
        multiext(f"{RESULTS}/table3", ".csv", ".md", ".tex"),
        in_report(f"{RESULTS}/table3.html", "table3.rst", "Table 3", "the table"),
        in_report(f"{RESULTS}/table3.provenance.json", "provenance.rst", "Table 3", "provenance"),
    params:
        settings=depends("table3"),
    benchmark:
        f"{RESULTS}/benchmarks/table3.tsv"
    resources:
        **LIGHT,
    shell:
        ghn("table3")
