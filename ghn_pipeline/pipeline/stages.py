"""Which settings each stage depends on, and where its results stand.

One definition for the checkpoints, the records, the check for stale results and the engines.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import PRESETS_OF, Recipe, Rival
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import digest

Settings = dict[str, Any]

#: What the workflow is asked for by name, and the kinds of stages that are made for it. A kind that
#: is listed nowhere is for every chapter.
CHAPTERS = {
    "correlation": {"oneshot", "sgd", "table4"},
    "ablations": {"sgd", "ablations"},
    "search": {"short", "winner", "finalists", "table1", "table2", "export"},
    "transfer": {"short", "winner", "mobile", "table3"},
    "memory": {"memory"},
    "anytime": {"anytime", "anytime_curves"},
    "benchmark": {"oneshot", "benchmark"},
}
#: The chapters that each space has.
CHAPTERS_OF = {
    "classification": ("correlation", "ablations", "search", "transfer", "memory"),
    "nasbench201": ("benchmark",),
    "anytime": ("anytime",),
}
#: Of a recipe, what changes no result.
HOW = {"processes", "nodes"}
#: Of the searches: the paper's, and what "advanced search methods" (section 5.1.1) may bring.
METHODS = ("random", "evolution")
#: What scores architectures without a model trained before.
UNTRAINED = ("proxies", "sgd")
#: What ranks architectures beside a GHN.
RIVALS = ("oneshot", *UNTRAINED)
#: The stages of which tables and figures are made, by what `ghn` is told to make.
TABLES = (
    "table1",
    "table2",
    "table3",
    "table4",
    "ablations",
    "search_curves",
    "anytime_curves",
    "benchmark",
)


def settings(config: Config, stage: str) -> Settings:
    """Return all settings that change the result of `stage`, those of earlier stages included.

    Args:
        config: of the scale.
        stage: "architectures", "ghn/NAME", "oneshot", "sgd/INDEX", "scores/ghn/NAME",
            "scores/oneshot", "scores/proxies", "scores/sgd", "search/METHOD/SEED", "short/RANK",
            "winner", "finalists/top/RANK", "finalists/random/RANK", "finalists/best/SEED",
            "mobile", "anytime/top/RANK", "anytime/random/INDEX", "anytime/best", "anytime/RIVAL",
            "memory", "export", or one of `TABLES`.

    Raises:
        UserError: there is no such stage.
    """
    kind, _, name = stage.partition("/")
    if kind not in _SETTINGS:
        raise _no_stage(stage, _SETTINGS)
    return _SETTINGS[kind](config, name)


def _no_stage(stage: str, known: Iterable[str], why: str = "") -> UserError:
    return UserError(f"there is no stage {stage!r}{why}{did_you_mean(stage, known)}")


def check_space(config: Config, stage: str) -> None:
    """Refuse a stage of a chapter that the space does not have.

    Args:
        config: of the scale.
        stage: as `settings` knows it.

    Raises:
        UserError: the space has no such chapter; those that it has are named.
    """
    kind, _, name = stage.partition("/")
    if kind == "scores" and name in RIVALS:
        kind = "oneshot"  # all rivals are of the chapters that it is of
    chapters = [chapter for chapter, kinds in CHAPTERS.items() if kind in kinds]
    own = CHAPTERS_OF[config.space.name]
    if not chapters or set(chapters) & set(own):
        return
    space = next(space for space, has in CHAPTERS_OF.items() if chapters[0] in has)
    presets = ", ".join(f"presets/{preset}.yaml" for preset in PRESETS_OF[space])
    raise UserError(
        f"{stage} belongs to the chapter {' or '.join(chapters)}, which the space "
        f"{config.space.name} does not have: it has {', '.join(own)}. Ask for one of these, or use "
        f"a preset of the space {space} ({presets})."
    )


def _architectures(config: Config, _: str) -> Settings:
    return {
        "method": config.method,
        "space": config.space.model_dump(),
        "held_out": config.correlation.model_dump(include={"drawn", "selection"}),
        "test_architectures": config.seeds.test_architectures,
    }


def _training(config: Config) -> Settings:
    return {
        **_architectures(config, ""),
        "images": config.images.model_dump(),
        "network": config.network.model_dump(),
        "split": config.seeds.split,
        "data_order": config.seeds.data_order,
        "initialisation": config.seeds.initialisation,
    }


def _searching(config: Config) -> Settings:
    return {**_training(config), "training_architectures": config.seeds.training_architectures}


def _ghn(config: Config, name: str) -> Settings:
    curve = config.benchmark.model_dump(include={"curve", "images"})
    return {**_searching(config), "ghn": config.named_ghn(name).model_dump(), "curve": curve}


def _oneshot(config: Config, _: str) -> Settings:
    return {**_searching(config), "oneshot": config.oneshot.model_dump()}


def _sgd(config: Config, _: str) -> Settings:
    return {
        **_training(config),
        "sgd": config.sgd.model_dump(),
        "steps": config.correlation.steps,
        "evaluation": config.evaluation.model_dump(include={"batch", "batches"}),
    }


def _scores(config: Config, model: str) -> Settings:
    if model == "proxies":
        return {**_training(config.of_proxies), "batch": config.proxies.batch}
    if model == "sgd":
        return {
            **_training(config),
            "sgd": config.sgd.model_dump(),
            "steps": config.proxies.steps,
            "evaluation": config.evaluation.model_dump(include={"batch", "batches"}),
        }
    if model != "oneshot" and not model.startswith("ghn/"):
        known = [f"scores/{m}" for m in (*(f"ghn/{n}" for n in config.ghns), *RIVALS)]
        raise _no_stage(f"scores/{model}", known)
    return {**settings(config, model), "evaluation": config.evaluation.model_dump()}


def _search(config: Config, name: str) -> Settings:
    method, _, seed = name.partition("/")
    if method not in METHODS or seed not in map(str, config.search.seeds):
        why = f": a method is {' or '.join(METHODS)}, and a seed one of search.seeds"
        raise _no_stage(f"search/{name}", searches(config), why)
    evolves = {"population", "sample", "generation"} if method == "evolution" else set()
    return {
        **_scores(config, first_ghn(config)),
        "search": config.search.model_dump(include={"evaluations", *evolves}),
        "seed": f"{config.seeds.search}/{name}",
    }


def _short(config: Config, rank: str) -> Settings:
    if rank not in map(str, config.finalists.ranks):
        ranks = [f"short/{r}" for r in config.finalists.ranks]
        raise _no_stage(f"short/{rank}", ranks, ": a rank is one of finalists.ranks")
    return {
        **_training(config),
        "sgd": config.sgd.model_dump(),
        "evaluation": config.evaluation.batch,
        **_below(config, chooser(config)),
    }


def _winner(config: Config, _: str) -> Settings:
    ranks = config.finalists.ranks
    return {"ranks": ranks, **_below(config, f"short/{ranks[0]}")}


def _finalists(config: Config, name: str) -> Settings:
    group, _, number = name.partition("/")
    chosen_by = {"top": chooser(config), "random": chooser(config), "best": "winner"}
    there = config.finalists.seeds if group == "best" else config.finalists.ranks
    if group not in chosen_by or number not in map(str, there):
        ranked = [f"{g}/{r}" for g in ("top", "random") for r in config.finalists.ranks]
        known = [*ranked, *(f"best/{s}" for s in config.finalists.seeds)]
        raise _no_stage(
            f"finalists/{name}",
            [f"finalists/{n}" for n in known],
            ": it is top/RANK or random/RANK, of finalists.ranks, or best/SEED, of finalists.seeds",
        )
    return {
        **_training(config),
        "finalists": finalist_recipe(config, group).model_dump(exclude=HOW),
        "evaluation": config.evaluation.batch,
        **_below(config, chosen_by[group]),
    }


def _mobile(config: Config, _: str) -> Settings:
    return {
        "method": config.method,
        "space": config.space.model_dump(),
        "mobile": config.mobile.model_dump(exclude=HOW),
        "stem_multiplier": config.network.stem_multiplier,
        "data_order": config.seeds.data_order,
        "initialisation": config.seeds.initialisation,
        **_below(config, "winner"),
    }


def _anytime(config: Config, name: str) -> Settings:
    group, _, rank = name.partition("/")
    chosen_by = {
        "top": [chooser(config)],
        "random": [],
        "best": [f"anytime/top/{config.anytime.top[0]}"],
    }
    ranks = {"top": config.anytime.top, "random": config.anytime.random}
    there = rank in map(str, ranks[group]) if group in ranks else not rank
    if not there or group not in (*chosen_by, *config.anytime.rivals):
        raise _no_stage(
            f"anytime/{name}",
            [f"anytime/{n}" for n in anytime_trainings(config)],
            ": it is top/RANK or random/INDEX, of anytime.top or anytime.random, best, or one of "
            "anytime.rivals",
        )
    own = {"images", "split", "data_order", "initialisation", "method"}
    made_of = _training(config)
    # the best is made to cost what the first rival does; it is chosen by an area over the budgets
    read = {"best": config.anytime.rivals[0]}.get(group, group)
    others = set(get_args(Rival)) - {read}
    recipe = config.anytime.model_dump(exclude={"top", "random", "rivals", *others})
    return {
        **{key: made_of[key] for key in made_of if group in chosen_by or key in own},
        "anytime": recipe,
        "ranks": config.anytime.top if group == "best" else [],
        "budgets": config.evaluation.budgets if group == "best" else None,
        **_below(config, *chosen_by.get(group, [])),
    }


def _anytime_curves(config: Config, _: str) -> Settings:
    trained = [f"anytime/{name}" for name in anytime_trainings(config)]
    return {
        "scale": config.scale,
        "intervals": config.correlation.model_dump(include={"resamples", "confidence"}),
        "bootstrap": config.seeds.bootstrap,
        **_below(config, chooser(config), f"scores/{first_ghn(config)}", *trained),
    }


def _memory(config: Config, _: str) -> Settings:
    return {
        "method": config.method,
        "space": config.space.model_dump(),
        "network": config.network.model_dump(),
        "resolution": config.images.resolution,
        "ghn": config.named_ghn(config.correlation.ghns[0]).model_dump(),
        "memory": config.memory.model_dump(),
        "momentum": config.sgd.momentum,  # of the candidate by itself
        "scale": config.scale,
    }


def _export(config: Config, _: str) -> Settings:
    return {"scale": config.scale, **_below(config, exported(config))}


def _table1(config: Config, _: str) -> Settings:
    ranks = config.finalists.ranks
    trained = [f"finalists/{group}/{ranks[0]}" for group in ("top", "random")]
    return {**_shown(config), "ranks": ranks, **_below(config, chooser(config), *trained)}


def _table2(config: Config, _: str) -> Settings:
    return {**_shown(config), "seeds": config.finalists.seeds, **_below(config, exported(config))}


def _table3(config: Config, _: str) -> Settings:
    return {**_shown(config), **_below(config, "mobile")}


def _table4(config: Config, _: str) -> Settings:
    scored = [f"scores/{model}" for model in (first_ghn(config), "oneshot", "proxies")]
    return {
        **_shown(config),
        **_compared(config),
        "steps": config.correlation.steps,
        **_below(config, "sgd/0", *scored),
    }


def _ablations(config: Config, _: str) -> Settings:
    scores = {
        part: [digest(settings(config, f"scores/ghn/{n}")) for n in config.ablated(part)]
        for part in type(config.ablations).model_fields
    }
    return {**_compared(config), **scores, **_below(config, "sgd/0")}


def _benchmark(config: Config, _: str) -> Settings:
    return {
        **_shown(config),
        **_compared(config),
        "top": config.benchmark.top,
        **_below(config, *compared(config), chooser(config)),
    }


def _search_curves(config: Config, _: str) -> Settings:
    return {"scale": config.scale, **_below(config, *searches(config))}


def _shown(config: Config) -> Settings:
    return {"scale": config.scale, "tables": config.tables.model_dump()}


def _compared(config: Config) -> Settings:
    return {
        "scale": config.scale,
        "correlation": config.correlation.model_dump(
            include={"architectures", "resamples", "confidence"}
        ),
        "bootstrap": config.seeds.bootstrap,
    }


def _below(config: Config, *stages: str) -> Settings:
    return {stage: digest(settings(config, stage)) for stage in stages}


_SETTINGS: dict[str, Callable[[Config, str], Settings]] = {
    "architectures": _architectures,
    "ghn": _ghn,
    "oneshot": _oneshot,
    "sgd": _sgd,
    "scores": _scores,
    "search": _search,
    "short": _short,
    "winner": _winner,
    "finalists": _finalists,
    "mobile": _mobile,
    "anytime": _anytime,
    "anytime_curves": _anytime_curves,
    "memory": _memory,
    "export": _export,
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "ablations": _ablations,
    "search_curves": _search_curves,
    "benchmark": _benchmark,
}


def first_ghn(config: Config) -> str:
    """Return the stage of the GHN that Table 4 shows and that searches."""
    return f"ghn/{config.correlation.ghns[0]}"


def compared(config: Config) -> list[str]:
    """Return every scoring of the test architectures that is held against published accuracies."""
    return [f"scores/{m}" for m in (*(f"ghn/{n}" for n in config.correlation.ghns), *RIVALS)]


def searches(config: Config) -> list[str]:
    """Return every search."""
    return [f"search/{method}/{seed}" for method in METHODS for seed in config.search.seeds]


def chooser(config: Config) -> str:
    """Return the search that chooses the finalists: the paper's random one (section 5.1.1)."""
    return f"search/random/{config.search.seeds[0]}"


def exported(config: Config) -> str:
    """Return the training of the winner that is exported, the first of several."""
    return f"finalists/best/{config.finalists.seeds[0]}"


def anytime_trainings(config: Config) -> list[str]:
    """Return the names of all trainings of networks with exits: for Figures 3 and 4."""
    ranked = [f"top/{r}" for r in config.anytime.top]
    ranked += [f"random/{r}" for r in config.anytime.random]
    return [*ranked, "best", *config.anytime.rivals]


def finalist_recipe(config: Config, group: str) -> Recipe:
    """Return how a group of finalists is trained: of Tables 1 and 2 only the second has CutOut."""
    shared = {key: getattr(config.finalists, key) for key in Recipe.model_fields}
    return Recipe(**{**shared, "cutout": config.finalists.cutout if group == "best" else 0})


def maker_of(stage: str) -> str:
    """Return the command that makes the results of a stage."""
    kind, _, name = stage.partition("/")
    verbs = {"architectures": "sample", "scores": "score", "winner": "choose"}
    verbs |= {kind: kind for kind in ("search", "memory", "export")}
    # finalists/top/0: train-finalist top/0
    verb = verbs.get(kind, f"train-{kind.removesuffix('s')}")
    return f"ghn {verb} {name}".strip()


def result_folder(config: Config, stage: str) -> Path:
    """Return the folder of a stage's results, below the working directory."""
    return Path("results", config.scale, stage)


def log_file(config: Config, stage: str) -> Path:
    """Return the file in which all that a stage said is kept.

    Raises:
        UserError: there is no such stage, or not in this space.
    """
    if stage != "prepare_data":
        check_space(config, stage)
        settings(config, stage)  # a name that is no stage's could be any path
    return Path("results", config.scale, "logs", f"{stage}.log")


def checkpoint_file(config: Config, stage: str, suffix: str = ".pt", of: str = "") -> Path:
    """Return the file from which a stopped stage goes on.

    It lies outside `results`, for a workflow engine deletes the outputs of a job that failed. The
    settings' digest is in its name: changed settings start anew, and changed back they go on.

    Args:
        config: of the scale.
        stage: as `settings` knows it.
        suffix: of the file.
        of: a hash of what it works on, where the settings alone do not say: an architecture that
            was chosen, weights that score, images of a folder.
    """
    made_from = f"{digest(settings(config, stage))}{'-' if of else ''}{of}"
    return Path("checkpoints", config.scale, f"{stage}-{made_from}{suffix}")
