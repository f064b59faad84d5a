# CIFAR-10 (section 5.1.1) and the architectures of the test set (section 5.3).

DATA = f"{CONFIG.data.folder}/cifar10.bin"


rule prepare_data:
    output:
        # the bytes are verified and the same from every source: never fetched twice
        protected(DATA),
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data.tsv"
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        ghn("prepare-data")


rule sample:
    input:
        not_stale("architectures"),
    output:
        f"{RESULTS}/architectures/architectures.json",
        f"{RESULTS}/architectures/selection.json",
        f"{RESULTS}/architectures/run.json",
    params:
        settings=depends("architectures"),
    benchmark:
        f"{RESULTS}/benchmarks/architectures.tsv"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        ghn("sample")


# what scores architectures has no use for those that choices are made by
DRAWN = [f"{RESULTS}/architectures/{file}" for file in ("architectures.json", "run.json")]
