# make quick      from nothing to Table 4 and Figure 6 at laptop scale, on real CIFAR-10
# make chapters   every table and figure at that scale; goes on from what `make quick` made
# make benchmark  NAS-Bench-201: how well a GHN ranks cells whose accuracies others have published
# make benchmark-long  the same with larger networks, in an hour and a half
# make claims     the page of the paper's claims, from the evidence in evidence/, without training
# make claims-nasbench201, claims-darts, claims-paper-space
#                 the runs behind it, each about an hour or two; they replace its evidence
# make anytime    networks with exits: Figures 3, 4 and 8 to 10 at laptop scale
# make smoke      every stage in minutes: proves the machinery, and nothing about the paper
# make test       every test
# make endurance  kills at random over every kind of stage, and other trials, in endurance/
# make bench      speed beside its limits; writes the table of docs/reference/costs.md
# make docs       the documentation as a site, in site/
# make check      formatting, lint, types

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: quick chapters benchmark benchmark-long claims claims-nasbench201 claims-darts claims-paper-space anytime smoke test endurance bench docs check clean-checkpoints

quick: .venv/installed
	snakemake correlation --cores all --configfile presets/quick.yaml

chapters: .venv/installed
	snakemake --cores all --configfile presets/quick.yaml

benchmark: .venv/installed
	snakemake benchmark --cores all --configfile presets/nasbench201.yaml

benchmark-long: .venv/installed
	snakemake benchmark --cores all --configfile presets/nasbench201-long.yaml

claims: .venv/installed
	ghn evidence

claims-nasbench201: .venv/installed
	snakemake claims --cores all --configfile presets/claims-nasbench201.yaml
	ghn keep --config params.yaml presets/claims-nasbench201.yaml
	ghn evidence

claims-darts: .venv/installed
	snakemake claims --cores all --configfile presets/claims-darts.yaml
	ghn keep --config params.yaml presets/claims-darts.yaml
	ghn evidence

claims-paper-space: .venv/installed
	snakemake claims --cores all --configfile presets/claims.yaml
	ghn keep --config params.yaml presets/claims.yaml
	ghn evidence

anytime: .venv/installed
	snakemake anytime_prediction --cores all --configfile presets/anytime-quick.yaml

smoke: .venv/installed
	snakemake --cores all --configfile presets/smoke.yaml

test: .venv/installed
	python -m pytest -n 3

endurance: .venv/installed
	snakemake data/cifar10.bin --cores 1 --configfile presets/smoke.yaml
	python tests/endurance.py

bench: .venv/installed
	snakemake data/cifar10.bin --cores 1 --configfile presets/smoke.yaml
	python benchmarks/speed.py

docs: .venv/installed
	mkdocs build --strict --quiet

check: .venv/installed
	ruff format --check . && ruff check . && mypy

# a training needs its checkpoint only until it ends; stages that are out of date later retrain from
# scratch
clean-checkpoints:
	rm -rf checkpoints

.venv/installed: pyproject.toml constraints.txt ghn_pipeline/model/propagation.c
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@ls ghn_pipeline/model/propagation_float32.*.so > /dev/null 2>&1 || \
		echo "Without a C compiler propagation was not compiled: PyTorch does it, slowly."
	touch $@
