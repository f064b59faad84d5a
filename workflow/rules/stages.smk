# One rule for each kind of stage; `snakemake --list` names them. The inputs, outputs, settings and
# resources of a stage are declared above the function that does its work, in ghn_pipeline/stages.
#
# `snakemake --lint` has three complaints about each rule. There is no `log:` because Snakemake would
# delete it when a job starts again (see common.smk). There is no environment because all stages use
# the one that `make` installs, with the versions of constraints.txt. {OPTIONS} comes from outside
# because it is no setting of a stage.

import re


def name_of(kind, wildcards):
    return "/".join([kind, *wildcards])


def path_of(folder, kind):
    return "/".join([folder, kind, *PART[kind]])


def reads(kind):
    """The inputs. A stage that the search space lacks ends the run before any job starts."""

    def found(wildcards):
        name = name_of(kind, wildcards)
        try:
            stage.check_space(CONFIG, name)
            stage.settings(CONFIG, name)  # a missing file of the user is said before any job starts
            remake_if_stale(name)
            return stage.inputs(CONFIG, name)
        except UserError as error:
            raise SystemExit(f"snakemake: {error}") from None  # other errors keep their traceback

    return found


def writes(declared):
    """The outputs. Some are entries of the page that `snakemake --report` makes."""
    if declared.kind == "data":
        # the bytes are verified and equal from every source, so they are never fetched twice
        return [protected(file) for file in stage.files(CONFIG, "data")]
    folder = RESULTS if declared.is_table else path_of(RESULTS, declared.kind)
    return [in_report(declared, file, f"{folder}/{file}") for file in declared.files]


def in_report(declared, file, path):
    shown = dict(declared.shown or {})
    if declared.is_table:
        category = next((each.category for each in shown.values()), declared.kind)
        shown[declared.record] = stage.Shown("provenance.rst", category, f"made of: {declared.kind}")
    if file not in shown:
        return path
    caption, category, label = shown[file].caption, shown[file].category, shown[file].label
    return report(path, caption=f"../report/{caption}", category=category, labels={"what": label})


def remake_if_stale(name):
    """Force a stage whose record has another digest.

    Snakemake knows only the settings of its own outputs, which DVC, or a command by hand, may have
    replaced.
    """
    record = stage.find(CONFIG, name)[0].record
    path = Path(stage.files(CONFIG, name, [record])[0]) if record else None
    if workflow.is_main_process and path is not None and path.exists():
        content = contents(path)
        made = content.get("table", content)
        found = made.get("digest") if isinstance(made, dict) else None
        if found != digest(stage.settings(CONFIG, name)):
            workflow.dag.forcefiles.add(str(path))


def depends(kind):
    """The settings that change the result. If they have changed, Snakemake runs the job again."""
    return lambda wildcards: stage.settings(CONFIG, name_of(kind, wildcards))


def command(kind):
    return lambda wildcards: stage.command(name_of(kind, wildcards))


def first(kind):
    return lambda wildcards: stage.find(CONFIG, name_of(kind, wildcards))[0].first


# The rule of a kind with parts, such as sgd/3, has a wildcard for the part.
KINDS = {kind: stages[0] for kind, stages in stage.kinds().items()}
PART = {kind: [] if declared.name == kind else ["{part}"] for kind, declared in KINDS.items()}
BENCHMARKS = f"{RESULTS}/benchmarks"
PARTS = {
    kind: "|".join(
        re.escape(name.partition("/")[2])
        for declared in stages
        for name in declared.names(CONFIG)
    )
    for kind, stages in stage.kinds().items()
}

for KIND, DECLARED in KINDS.items():

    rule:
        name:
            KIND
        input:
            reads(KIND),
        output:
            writes(DECLARED),
        params:
            settings=depends(KIND),
            command=command(KIND),
        benchmark:
            f"{path_of(BENCHMARKS, KIND)}.tsv"
        wildcard_constraints:
            part=PARTS[KIND],
        threads: cores_for(DECLARED)
        priority: first(KIND)
        resources:
            **asked_by(DECLARED),
        shell:
            # Snakemake fills in {OPTIONS} for each job. Otherwise one more file on the command line
            # would change the code of every rule, and Snakemake would run everything again.
            "{params.command}{OPTIONS}"


def leaves(chapter):
    """The outputs of a chapter: the files of its stages that no other stage reads."""
    declared = [one for one in stage.declared() if chapter in one.chapters]
    names = [name for one in declared for name in one.names(CONFIG, made=True)]
    read = {file for name in names for file in stage.inputs(CONFIG, name)}
    ends = [name for name in names if read.isdisjoint(stage.files(CONFIG, name))]
    return [file for name in ends for file in stage.files(CONFIG, name)]
