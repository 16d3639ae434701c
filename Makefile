# make lab opens the notebooks; make test checks everything. Both build .venv when it is missing.
.PHONY: lab test quick run pages bench library assignment grade instructor site serve clean
.DELETE_ON_ERROR:
BIN := .venv/bin
PYTHON ?= python3
# The tests share the cores, each worker with one thread: torch's own threads would fight for them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses=8 --dist=worksteal

lab: $(BIN)/ready
	$(BIN)/jupyter lab $(LAB_FLAGS) notebooks

test: $(BIN)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST)
	$(BIN)/python tests/run_nbval.py

# For maintainers: lint and the unit tests that take seconds; a notebook executed as it is committed.
quick: $(BIN)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m 'not slow'

run: $(BIN)/ready
	$(BIN)/python tests/run_notebook.py $(NOTEBOOK)

# Every panel of every notebook in a browser, at three widths, with a kernel and on the site; screenshots
# in build/pages.
pages: site
	mkdir -p build/pages
	COMPANION_PAGES=$(CURDIR)/build/pages $(BIN)/python -m pytest -q -s tests/test_page.py tests/test_site.py \
	  -k every_panel

bench: $(BIN)/ready
	$(BIN)/python tests/benchmarks/bench.py

library: $(BIN)/ready
	@UV=$$(command -v uv || echo $(BIN)/uv); \
	  $$UV pip install --quiet --python $(BIN)/python --editable '.[browser,library]'

# For a class: the exercises of one notebook as an assignment, and what students handed in, graded.
$(BIN)/classroom: $(BIN)/ready
	@UV=$$(command -v uv || echo $(BIN)/uv); \
	  $$UV pip install --quiet --python $(BIN)/python --editable '.[browser,classroom]'
	@touch $@

assignment: $(BIN)/classroom
	@$(BIN)/python -m companion.classroom assignment $(NOTEBOOK) --seed $(or $(SEED),0) $(if $(WHOLE),--whole)

grade: $(BIN)/classroom
	@$(BIN)/python -m companion.classroom grade $(NOTEBOOK) "$(FOLDER)" --seed $(or $(SEED),0)

# A page to teach from, with large figures, of one notebook or of all six: build/classroom/instructor.
instructor: $(BIN)/ready
	@for section in $(or $(NOTEBOOK),31.1 31.2 31.3 31.4 31.5 31.6); do \
	  $(BIN)/python -m companion.classroom instructor $$section || exit 1; done

# The notebooks as pages whose panels live without a kernel: site/index.html. Jupyter Book has its own place.
BOOK := build/book/bin/jupyter-book
$(BOOK): $(BIN)/ready
	@UV=$$(command -v uv || echo $(BIN)/uv); $$UV venv --quiet --clear --python $(BIN)/python build/book && \
	  $$UV pip install --quiet --python build/book/bin/python 'jupyter-book<2' sphinx-mathjax-offline

site: $(BOOK)
	@$(BIN)/python -m companion.site $(NOTEBOOK)

serve: site
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .ruff_cache data/cache data/trained

# uv installs torch in seconds; where it is missing, the environment gets one of its own.
$(BIN)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@set -e; if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv; UV=uv; \
	else \
	  $(PYTHON) -m venv .venv; $(BIN)/python -m pip install --quiet uv; UV=$(BIN)/uv; \
	fi; $$UV pip install --quiet --python $(BIN)/python --editable '.[browser]'
	@touch $@
