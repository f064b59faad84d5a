"""A stage that asks how far the first GHN and a proxy agree."""

from ghn_pipeline.stages.shared import FIRST_GHN, Job, stage


@stage(
    "agreement",
    reads=(f"scores/{FIRST_GHN}: scores.csv run.json", "scores/proxies: scores.csv run.json"),
    settings=("search.seeds",),
    writes=("agreement.csv",),
    chapters=("agreement", "correlation"),
)
def agreement(job: Job) -> None:
    """Write the scores of the first GHN beside those of a proxy."""
    import pandas as pd

    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.stage import filled, result_folder

    (ghn,) = filled(job.config, f"scores/{FIRST_GHN}")
    files = (record.output(job.config, name, "scores.csv") for name in (ghn, "scores/proxies"))
    generated, counted = (pd.read_csv(file) for file in files)
    folder = result_folder(job.config, "agreement")
    folder.mkdir(parents=True, exist_ok=True)
    generated.assign(halves=counted["halves"]).to_csv(folder / "agreement.csv", index=False)
    record.write(job.config, "agreement", {}, seconds=0, outputs=["agreement.csv"])
    tracking.done(folder)
