# Targets that need the environment make it first: .venv, from requirements.lock. PYTHON=… chooses another Python 3.11+.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A process for each core, with one thread each; one that has nothing left to do takes over tests of another.
TESTS = OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help env repro check test test-slow coverage test-all torture fuzz browser lint docs pages rooms lock photos notebook study map audit upright bench suspects advice next

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/installed ## make the environment in .venv

repro: .venv/installed ## check params.yaml and run what has changed of the pipeline
	@quarterturn check
	@quarterturn mend
	dvc repro

check: lint ## check style and types, run the tests of what does not train: a minute
	$(TESTS) tests/core tests/data tests/ingest tests/evaluation tests/test_rooms.py tests/test_trust.py

test: lint ## check style and types, run all tests but the slow ones: six minutes
	$(TESTS)

test-slow: .venv/installed ## run the slow tests only
	$(TESTS) -m slow

coverage: .venv/installed ## show what the tests reach, without the slow ones
	$(TESTS) --cov --cov-report=term:skip-covered

test-all: test test-slow ## run all tests, as continuous integration does

torture: .venv/installed ## kill the pipeline at 50 random moments; the report is docs/torture.md
	python -m tests.torture 50 --report docs/torture.md

fuzz: .venv/installed ## read 100,000 damaged params.yaml, 10,000 model files and pixel stores; the report is docs/fuzz.md
	python -m tests.fuzz 100000 10000 --report docs/fuzz.md

browser: .venv/installed ## label images in Chromium, if it is installed; PICTURES=1 also writes the pictures of docs/
	python -m tests.browser.label $(if $(PICTURES),--pictures)
	$(if $(PICTURES),python -m tests.browser.report)

lint: .venv/installed ## check style and types only
	ruff check
	ruff format --check
	mypy

docs: .venv/installed ## build the documentation in build/site
	python -m tests.reference
	mkdocs build --strict --quiet

pages: .venv/installed ## write what pages take from code and results, before a commit that changes either
	python -m tests.pages

rooms: .venv/installed ## print which rooms of the library import which
	@python -m tests.rooms

photos: .venv/installed ## the recipes photos and pretrained on DATA=folder-or-zip of cats and dogs; results in studies/photos
	python -m studies.photos.run "$(DATA)"

notebook: .venv/installed ## the protocol this grew from, on DATA=folder-or-zip of cats and dogs; results in studies/notebook
	python -m studies.notebook.run "$(DATA)"

study: .venv/installed ## how many labels are saved, on silhouettes; or on DATA=folder-or-zip, with NAME=…, SEEDS=… and SHARE=1/2
	python -m studies.label_efficiency.run $(if $(DATA),--data "$(DATA)") $(if $(NAME),--name "$(NAME)") \
		$(if $(SEEDS),--seeds "$(SEEDS)") $(if $(SHARE),--share "$(SHARE)")

audit: .venv/installed ## what the rotation classifier looks at, on DATA=folder-or-zip, NAME=photos or another set; results in studies/audit
	python -m studies.audit.run "$(DATA)" $(if $(NAME),--name "$(NAME)")

upright: .venv/installed ## how well turned images are found, on DATA=folder-or-zip of cats and dogs; results in studies/upright
	python -m studies.upright.run "$(DATA)"

map: .venv/installed ## what each pretraining is worth, on DATA=folder with six sets, a SHARE=1/2 of it; results in studies/map
	python -m studies.map.run "$(DATA)" $(if $(SHARE),--share "$(SHARE)")

suspects: .venv/installed ## how well wrong labels are found, on DATA=folder with six sets; results in studies/suspects
	python -m studies.suspects.run "$(DATA)"

advice: .venv/installed ## do forecasts of more labels hold, on DATA=folder with five sets; results in studies/advise
	python -m studies.advise.run "$(DATA)"

next: .venv/installed ## do images that `quarterturn next` chooses teach more, on DATA=folder with five sets; results in studies/next
	python -m studies.next.run "$(DATA)"

bench: .venv/installed ## how fast it is, as ratios; with DATA=folder-or-zip of cats and dogs, and PARTS="…"; an hour
	python -m benchmarks.run $(PARTS) $(if $(DATA),--data "$(DATA)")

lock: ## pin what a fresh installation gets now
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[dev]'
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip freeze --all --exclude pip --exclude quarterturn \
	  | sed -E '/^(nvidia-|cuda-|triton)/s/$$/ ; sys_platform == "linux" and platform_machine == "x86_64"/'; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Quarterturn needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name one: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
