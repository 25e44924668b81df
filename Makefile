# make demo          the whole way: search, train, int8, C, two emulated boards, report (out/demo)
# make demo DATA=bccd    the same on real photographs (needs MCUNET_SHARED or ../shared)
# make tables        the paper's tables and figures that need no training (docs/paper)
# make docs          the pages as a site (out/site/index.html)
# make fuzz          5,000 damaged ONNX files and as many .tflite files against the whole way to C
# make prove         1,000 random networks and schedules: C under sanitizers and on two boards equals the reference
# make kills         50 kills of mcunet generate while it writes one library over another
# make mutants       load-bearing lines broken one at a time: the tests concerned must fail (nearly two hours)
# make trust         prove, mutants, fuzz and kills in turn; their counts into docs/results/trust.json
# make test          all quick tests;  make test-slow: the long ones
PYTHON ?= python3
DATA ?= digits
RUN = .venv/bin/python
MCUNET = .venv/bin/mcunet
C = git ls-files -z '*.c' '*.h'


.PHONY: install demo tables docs fuzz prove kills mutants trust test test-slow format clean

install: .venv/installed

.venv/installed: pyproject.toml tools/install.sh
	PYTHON="$(PYTHON)" sh tools/install.sh

demo: install
	$(MCUNET) demo --data $(DATA)

tables: install
	$(MCUNET) tables
	$(MCUNET) detector-table --write

docs: install
	.venv/bin/mkdocs build --strict -f .ci/mkdocs.yml

fuzz: install
	$(RUN) tests/fuzz.py --cases 5000
	$(RUN) tests/fuzz.py --cases 5000 --format tflite

prove: install
	$(RUN) tests/prove.py --cases 1000

kills: install
	$(RUN) tests/kills.py --kills 50

mutants: install
	$(RUN) tests/mutants.py

trust: install
	$(RUN) benchmarks/trust.py

test: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(C) | xargs -0 .venv/bin/clang-format --dry-run -Werror
	$(RUN) -m mypy
	.venv/bin/codespell README.md CHANGELOG.md CONTRIBUTING.md docs configs detection nni_mcunet benchmarks examples
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile -m "not slow"

test-slow: install
	$(RUN) -m pytest -m slow

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(C) | xargs -0 .venv/bin/clang-format -i

clean:
	rm -rf out .venv *.egg-info
