# SPDX-License-Identifier: Apache-2.0
# hob: `make help` lists the targets; V=1 shows whole commands. Objects go to $(BUILD); a sanitizer's build is this Makefile again with another BUILD.
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
BUILD ?= build
Q := $(if $(V),,@)
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))
PREFIX ?= /usr/local
SYSCONFDIR ?= $(PREFIX)/etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
PORT ?= 8443
FUZZ_SECONDS ?= 60
CLANG_FORMAT ?= clang-format
CLANG_TIDY ?= clang-tidy

# Diagnoses are one bounded line: snprintf may cut them.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wno-format-truncation $(if $(CI),-Werror)
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection $(if $(SAN),-fno-omit-frame-pointer $(SAN),-D_FORTIFY_SOURCE=2)
CFLAGS_ALL = -std=gnu11 -O2 -g -ffp-contract=off $(WARN) $(HARDEN) -I. -D_GNU_SOURCE $(PKG_CFLAGS) $(CFLAGS)
# Where sources lie is not in the program, so that its bytes are the same wherever it is built. Not among the flags that
# objects depend on: another place needs no other objects.
PATHS = -ffile-prefix-map='$(CURDIR)=.' -ffile-prefix-map='$(DEPS)=deps'
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SAN) $(LDFLAGS)
LIBS = $(BUILD)/libhob.a $(DEPS_LIBS) $(PKG_LIBS) -lm -pthread

# A unit named *_<isa>.c gets that ISA's flags, and is left out where the processor family is another.
MACHINE := $(shell $(CC) -dumpmachine)
SKIP := $(if $(filter x86_64%,$(MACHINE)),,%_avx2.c %_avx512vnni.c %_shani.c) $(if $(filter aarch64%,$(MACHINE)),,%_neon.c)
$(BUILD)/hal/cpu/%_avx2.o: ISA_FLAGS = -mavx2 -mfma -mf16c
$(BUILD)/hal/cpu/%_avx512vnni.o: ISA_FLAGS = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c
$(BUILD)/hal/cpu/%_shani.o: ISA_FLAGS = -msha -msse4.1
# gcc's scheduling before register allocation loads early until tiles that fill the registers spill.
$(BUILD)/hal/cpu/%_neon.o: ISA_FLAGS = -march=armv8.2-a+dotprod $(if $(findstring clang,$(CC)),,-fno-schedule-insns)

# For a processor under an EMULATOR only kernels-check is built, of what needs no library of that processor.
# The pure parts of the gateway are in the library, where unit tests reach them.
# So are hobctl's client, which hobd sends traces with, and those of hobctl's parts that tests reach.
SHARED_SRC := $(addprefix daemon/ctl/,client.c server.c samples.c top_page.c top_view.c)
PURE_SRC := $(wildcard $(addprefix daemon/gateway/,quota.c failures.c sessions.c sources.c keyring.c forecast.c multipart.c text.c question.c passages.c log.c log_line.c log_ring.c trace_context.c))
LIB_SRC := $(filter-out $(SKIP),$(wildcard hal/*.c hal/cpu/*.c $(if $(EMULATOR),,hal/cl/*.c models/*.c daemon/engine/*.c daemon/observe/*.c daemon/extract/*.c daemon/conf/*.c daemon/store/*.c daemon/bundle/*.c $(PURE_SRC) $(SHARED_SRC))))
HOBD_SRC := $(filter-out $(PURE_SRC),$(wildcard daemon/main.c daemon/gateway/*.c))
HOBCTL_SRC := $(filter-out $(SHARED_SRC),$(wildcard daemon/ctl/*.c))
UNIT_SRC := $(wildcard tests/unit/test_*.c)
KERNEL_SRC := $(wildcard tests/kernels/*.c $(if $(EMULATOR),tests/kernels/emulated/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
MUTATE_SRC := $(wildcard tests/fuzz/*_mutate.c)
ALL_SRC := $(LIB_SRC) $(HOBD_SRC) $(HOBCTL_SRC) $(UNIT_SRC) $(KERNEL_SRC) $(FUZZ_SRC) $(MUTATE_SRC) tests/fuzz/replay.c tests/bench/vectors.c
# limits.c is kept as given.
TRACKED_C = $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h' ':!tests/bench/limits.c' 2>/dev/null)

# A program is linked once its main file exists.
PROGRAMS := $(if $(wildcard daemon/main.c),$(BUILD)/hobd) $(if $(wildcard daemon/ctl/main.c),$(BUILD)/hobctl)
UNIT := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
# In the ordinary run a fuzz target replays its seeds, and a mutation program tries every small damage.
REPLAY := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/replay/%) $(MUTATE_SRC:tests/fuzz/%.c=$(BUILD)/mutate/%)
KERNELS := $(if $(KERNEL_SRC),$(BUILD)/kernels-check)

all: $(BUILD)/libhob.a $(PROGRAMS) compile_commands.json ## builds build/hobd and build/hobctl, getting what is missing first

help: ## lists the targets
	@sed -n -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done

# What the machine provides: packages, the private libraries, their flags. Checked at every build that compiles, which
# costs a tenth of a second; the file changes, and with it everything is rebuilt, only when the answer does.
ifneq ($(filter-out help clean format format-check setup arm64 $(if $(ISA)$(EMULATOR),kernels-check),$(or $(MAKECMDGOALS),all)),)
include $(BUILD)/config.mk
endif
$(BUILD)/config.mk: FORCE
	@packaging/setup/packages build
	@packaging/deps/build
	@mkdir -p $(@D)
	@packaging/setup/flags > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
FORCE:

# Objects depend on the flags they were made with.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS_ALL) | $(LDFLAGS_ALL)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(CFLAGS_ALL) $(PATHS) $(ISA_FLAGS) -MMD -MP -c $< -o $@

# The kernels' sources and the console's files are part of the program.
$(BUILD)/hal/cl/program.o: $(wildcard kernels_cl/*)
$(BUILD)/daemon/gateway/console_files.o: $(wildcard daemon/console/*)
# hobctl setup knows the packaged configuration, to tell whether somebody has edited it.
$(BUILD)/daemon/ctl/setup_system.o: config/hob.conf
$(BUILD)/libhob.a: $(LIB_SRC:%.c=$(BUILD)/%.o)
	@rm -f $@
	@echo "  AR $@"
	$(Q)ar rcs $@ $^
$(BUILD)/hobd: $(HOBD_SRC:%.c=$(BUILD)/%.o) $(BUILD)/libhob.a
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIBS) -o $@
$(BUILD)/hobctl: $(HOBCTL_SRC:%.c=$(BUILD)/%.o) $(BUILD)/libhob.a
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIBS) $(CURSES_LIBS) -o $@
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libhob.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $< $(LIBS) -lcmocka -o $@
$(BUILD)/kernels-check: $(KERNEL_SRC:%.c=$(BUILD)/%.o) $(BUILD)/libhob.a
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIBS) -o $@
# tests/bench/vectors.py runs it.
$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libhob.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $< $(LIBS) -o $@
$(BUILD)/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libhob.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer $< $(LIBS) -o $@
$(BUILD)/mutate/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libhob.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $< $(LIBS) -o $@
$(BUILD)/replay/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libhob.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIBS) -o $@
.SECONDARY: $(ALL_SRC:%.c=$(BUILD)/%.o)

compile_commands.json: Makefile $(BUILD)/flags $(ALL_SRC)
	@{ sep='['; for f in $(ALL_SRC); do isa=; case $$f in *_avx2.c) isa='-mavx2 -mfma -mf16c';; \
	   *_shani.c) isa='-msha -msse4.1';; *_avx512vnni.c) isa='-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c';; esac; \
	   printf '%s\n{"directory": "%s", "file": "%s", "command": "%s"}' "$$sep" "$(CURDIR)" "$$f" "$(CC) $(CFLAGS_ALL) $$isa -c $$f"; sep=,; \
	   done; printf '\n]\n'; } > $@.new && mv $@.new $@

setup: ## installs the Debian packages that are missing, builds the private libraries, fetches the models
	@packaging/setup/packages build test
	@packaging/deps/build
	@packaging/setup/model >/dev/null
	@packaging/setup/model minilm >/dev/null
	@packaging/setup/venv >/dev/null

run: ## sets up, starts hobd on https://127.0.0.1:8443, asks it a question, stays up (MODEL=file.gguf PORT=n)
	@packaging/setup/packages build
	@$(MAKE) $(PARALLEL) --no-print-directory all
	@BUILD='$(BUILD)' MODEL='$(MODEL)' PORT='$(PORT)' packaging/setup/run

# Every recipe that runs a test goes through tests/run, which adds up and prints the one closing line.
TEST_ENV = HOB_CC='$(CC) $(CFLAGS_ALL)' HOB_SANITIZED='$(SAN)' HOB_BUILD='$(abspath $(BUILD))' HOB_TEST_MODEL="$$(packaging/setup/model)" HOB_TEST_EMBEDDING="$$(BUILD='$(BUILD)' packaging/setup/embedding)" HOB_PYTHON="$$(packaging/setup/venv)"
tests-ready:
	@packaging/setup/packages build test
	@packaging/setup/model >/dev/null
	@packaging/setup/model minilm >/dev/null
	@packaging/setup/venv >/dev/null
	@$(MAKE) $(PARALLEL) --no-print-directory all tests-built
	@BUILD='$(BUILD)' packaging/setup/embedding >/dev/null
tests-built: $(UNIT) $(KERNELS) $(REPLAY)

test: tests-ready ## builds and runs all tests
	@$(TEST_ENV) tests/run tree unit fuzz kernels api
check: tests-ready ## test, then the slow ones
	@$(TEST_ENV) tests/run tree unit fuzz kernels api opencl neon slow
kernels-check: $(if $(ISA),emulated,native)-kernels-check ## every kernel against its reference (DEVICE=opencl: those of the first OpenCL device; ISA=neon: those of aarch64 under qemu)
native-kernels-check: $(KERNELS)
	@$(EMULATOR) $(KERNELS) $(if $(filter opencl,$(DEVICE)),--device opencl:0) $(ARGS)
emulated-kernels-check:
	@[ '$(ISA)' = neon ] || { echo 'make kernels-check: ISA=$(ISA): allowed neon' >&2; exit 2; }
	@packaging/setup/packages neon
	@$(MAKE) $(PARALLEL) --no-print-directory ISA= CC=aarch64-linux-gnu-gcc BUILD=build/neon EMULATOR='qemu-aarch64 -L /usr/aarch64-linux-gnu' kernels-check
# oclgrind is an OpenCL device that watches every access: it takes the place of the machine's drivers.
cl-check: $(KERNELS) ## the OpenCL kernels under oclgrind: data races, bounds (an hour)
	@packaging/setup/packages opencl
	@BUILD='$(BUILD)' tests/kernels/oclgrind $(ARGS)
bench: $(PROGRAMS) ## prefill and decode speed of the default model (MODEL=file.gguf)
	@$(BUILD)/hobctl bench --model "$${MODEL:-$$(packaging/setup/model)}" $(ARGS)

asan: ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@ASAN_OPTIONS=detect_leaks=1 $(MAKE) --no-print-directory BUILD=build/asan SAN='-fsanitize=address,undefined -fno-sanitize-recover=all' test
ubsan: ## all tests under UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory BUILD=build/ubsan SAN='-fsanitize=undefined -fno-sanitize-recover=all' test
tsan: ## all tests under ThreadSanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan SAN='-fsanitize=thread' test
fuzz: ## each fuzz target for FUZZ_SECONDS, with clang's libFuzzer
	@packaging/setup/packages build tidy
	@$(MAKE) --no-print-directory CC=clang BUILD=build/fuzz SAN='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all' fuzz-run
fuzz-run: $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)
	@for f in $^; do n=$${f##*/fuzz_}; mkdir -p $(BUILD)/corpus/$$n; echo "fuzz: $$n for $(FUZZ_SECONDS) s"; \
	   $$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 $(BUILD)/corpus/$$n $$([ -d tests/fuzz/seeds/$$n ] && echo tests/fuzz/seeds/$$n) || exit 1; done
fuzz-gguf: ## every small damage to a model file, and the fuzz seeds, under AddressSanitizer and UndefinedBehaviorSanitizer
	@packaging/setup/packages build
	@$(MAKE) --no-print-directory BUILD=build/asan SAN='-fsanitize=address,undefined -fno-sanitize-recover=all' fuzz-gguf-run
fuzz-gguf-run: $(REPLAY)
	@for f in $(filter $(BUILD)/mutate/%,$^); do echo "$${f##*/}:"; HOB_TEST_MODEL="$$(packaging/setup/model)" $$f || exit 1; done
	@for f in $(filter $(BUILD)/replay/%,$^); do n=$${f##*/fuzz_}; echo "replay $$n:"; \
	   ! [ -d tests/fuzz/seeds/$$n ] || $$f tests/fuzz/seeds/$$n || exit 1; done
tidy: compile_commands.json ## clang-tidy over the sources
	@packaging/setup/packages build tidy
	@$(CLANG_TIDY) --quiet -p . $(LIB_SRC) $(HOBD_SRC) $(HOBCTL_SRC)
format: ## rewrites the C sources with clang-format
	@packaging/setup/packages tidy
	@$(CLANG_FORMAT) -i $(TRACKED_C)
format-check: ## fails where clang-format would change something
	@packaging/setup/packages tidy
	@$(CLANG_FORMAT) --dry-run -Werror $(TRACKED_C)
# What goes in without FILES comes from the target deb.
bundle: all $(if $(FILES),,deb) ## makes build/hob.bundle, an update for boxes without a network (FILES="…" of these, VERSION=, KEY=private.pem)
	@BUILD='$(BUILD)' FILES='$(FILES)' VERSION='$(VERSION)' KEY='$(KEY)' packaging/bundle/make
install: all $(BUILD)/man/hobctl.1 $(BUILD)/package/sbom.cdx.json ## installs programs, configuration, manual pages, unit and SBOM under $(DESTDIR)$(PREFIX), the configuration in $(DESTDIR)$(SYSCONFDIR)
	install -D -m 755 $(BUILD)/hobd '$(DESTDIR)$(PREFIX)/sbin/hobd'
	install -D -m 755 $(BUILD)/hobctl '$(DESTDIR)$(PREFIX)/bin/hobctl'
	install -D -m 644 config/hob.conf '$(DESTDIR)$(SYSCONFDIR)/hob/hob.conf'
	install -d '$(DESTDIR)$(UNITDIR)'
	sed 's#/usr/sbin/hobd#$(PREFIX)/sbin/hobd#; s#/etc/hob#$(SYSCONFDIR)/hob#' packaging/systemd/hob.service >'$(DESTDIR)$(UNITDIR)/hob.service'
	chmod 644 '$(DESTDIR)$(UNITDIR)/hob.service'
	install -D -m 644 packaging/systemd/hob.sysusers '$(DESTDIR)$(PREFIX)/lib/sysusers.d/hob.conf'
	install -D -m 644 $(BUILD)/man/hobctl.1 '$(DESTDIR)$(PREFIX)/share/man/man1/hobctl.1'
	install -D -m 644 $(BUILD)/man/hob.conf.5 '$(DESTDIR)$(PREFIX)/share/man/man5/hob.conf.5'
	install -D -m 644 $(BUILD)/man/hobd.8 '$(DESTDIR)$(PREFIX)/share/man/man8/hobd.8'
	install -D -m 644 $(BUILD)/man/hobctl.bash '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hobctl'
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/hob' README.md $(BUILD)/package/sbom.cdx.json
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/hob/examples' packaging/systemd/render.conf config/prometheus/* config/grafana/*
install-models: $(BUILD)/package/models ## installs the default models under $(DESTDIR)$(PREFIX)
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/hob/models' $(BUILD)/package/models/*.gguf

# Manual pages and completion are made of --help and of config/hob.conf.
$(BUILD)/man/hobctl.1: $(PROGRAMS) config/hob.conf packaging/deb/changelog $(wildcard packaging/man/*)
	@echo "  GEN $(@D)"
	$(Q)packaging/man/generate $(BUILD)/hobd $(BUILD)/hobctl $(@D)
# The default models under the names that packages give them.
$(BUILD)/package/models: $(BUILD)/hobctl packaging/setup/model packaging/setup/embedding
	@rm -rf $@ && mkdir -p $@
	@ln -sf "$$(MODEL= packaging/setup/model)" $@/smollm2-135m-instruct-q4_1.gguf
	@packaging/setup/model minilm >/dev/null
	@ln -sf "$$(BUILD='$(BUILD)' packaging/setup/embedding)" $@/all-minilm-l6-v2-q8_0.gguf
$(BUILD)/package/sbom.cdx.json: $(PROGRAMS) $(BUILD)/package/models packaging/deb/changelog packaging/sbom/generate packaging/deps/build
	@echo "  GEN $@"
	$(Q)packaging/sbom/generate $(BUILD)/hobd $(BUILD)/hobctl $(BUILD)/package/models $@

arm64: ## cross-builds hobd and hobctl for aarch64 into $(BUILD)/arm64
	@packaging/setup/packages build neon package
	@s=$$(packaging/setup/sysroot) && \
	   HOB_DEPS_CC=aarch64-linux-gnu-gcc PKG_CONFIG_SYSROOT_DIR="$$s" PKG_CONFIG_LIBDIR="$$s/usr/lib/aarch64-linux-gnu/pkgconfig:$$s/usr/share/pkgconfig" \
	   $(MAKE) $(PARALLEL) --no-print-directory CC=aarch64-linux-gnu-gcc BUILD='$(BUILD)/arm64' CFLAGS="--sysroot=$$s" LDFLAGS="--sysroot=$$s" programs
programs: $(PROGRAMS)

deb: all ## builds the Debian packages into $(BUILD)/deb, without a network once `make setup` has been run
	@packaging/setup/packages package
	@BUILD='$(BUILD)' packaging/deb/build
rpm: all $(if $(filter deb,$(MAKECMDGOALS)),deb) ## builds the RPM packages into $(BUILD)/rpm, likewise
	@packaging/setup/packages package
	@BUILD='$(BUILD)' packaging/rpm/build
clean: ## removes what was built here (not ./var, not the cache)
	rm -rf build compile_commands.json

ifneq ($(wildcard $(BUILD)),)
-include $(ALL_SRC:%.c=$(BUILD)/%.d)
endif
.PHONY: all help setup run test tests-ready tests-built check kernels-check native-kernels-check emulated-kernels-check cl-check bench asan ubsan tsan fuzz fuzz-run fuzz-gguf fuzz-gguf-run tidy format format-check install install-models arm64 programs deb rpm bundle clean FORCE
