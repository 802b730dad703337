# make demo and make test do all the set-up on a fresh machine with Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := demo

.PHONY: demo test clean
.DELETE_ON_ERROR:

# Modules are compiled when they are first imported, and kept: two fifths of what is installed are ever imported, and
# what is not kept every process compiles again.
unexport PYTHONDONTWRITEBYTECODE

# A venv keeps the Python that it was made with: one of another is made anew.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("error: Hedge needs Python 3.10 or newer, as in make demo PYTHON=python3.11")'
	$(PYTHON) -m venv $$([ "$$($(RUN) -V 2>&1)" = "$$($(PYTHON) -V)" ] || echo --clear) $(VENV)
	$(RUN) -m pip install --quiet --no-compile --disable-pip-version-check -e '.[dev]'
	touch $@

$(DEMO)/drive.mp4: $(VENV)/.installed
	rm -rf $@ $(DEMO)/street $(DEMO)/drive_labels
	$(RUN) -m train.datasets.synthetic $(DEMO)/street --video $@

# From nothing to a segmented video: generate a street, train, export, stream, report.
demo: $(DEMO)/drive.mp4
	$(RUN) -m train --variant dlse_hed --data $(DEMO)/street --out $(DEMO)/runs --name street \
		--epochs 12 --loss-stride 2 --force
	$(RUN) -m export $(DEMO)/runs/street --fp32 --out $(DEMO)/bundles --force
	$(RUN) -m runtime.video $(DEMO)/drive.mp4 --bundle $(DEMO)/bundles/street-fp32 \
		--labels $(DEMO)/drive_labels --out $(DEMO)/drive_segmented.mp4 \
		--json $(DEMO)/report.json --force
	$(RUN) -m runtime.video $(DEMO)/drive.mp4 --bundle street19 --out $(DEMO)/drive_street19.mp4 --force
	@echo "Watch it: $(DEMO)/drive_segmented.mp4 plays in any browser."
	@echo "Your own video, by the shipped model, which has seen real streets:"
	@echo "  $(VENV)/bin/hedge video YOUR.mp4 --bundle street19 --out overlay.mp4"
	@echo "Your own camera and classes: docs/tutorials/your-data.md"

# What the tests import is compiled once, beside mypy's first look at it: processes that start together would each do so.
$(VENV)/.warm: $(VENV)/.installed
	-$(RUN) -m mypy > /dev/null & $(RUN) -m pytest --collect-only -qq > /dev/null; wait
	touch $@

# Three files at a time, of one thread each: while one waits for a camera, the others keep two cores busy. In the order
# of their names, for the files of most tests are not those that take longest.
test: $(VENV)/.warm
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy & types=$$!; \
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types && exit $$tests

clean:
	rm -rf $(VENV) $(DEMO) *.egg-info
