# hob: see `make help`.
MAKEFLAGS += --no-builtin-rules
CC ?= gcc
BUILD ?= build
SHELL := /bin/bash

PKGS := libconfig jansson libpcre2-8 libutf8proc libseccomp
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE -fstack-clash-protection
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
CFLAGS_ALL = -std=gnu11 -O2 -g -ffp-contract=off $(WARN) $(HARDEN) -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS)) $(CFLAGS)
LIBS = $(shell pkg-config --libs $(PKGS)) -lm -pthread
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(LDFLAGS)

LIB_SRC := $(wildcard hal/*.c hal/cpu/*.c models/*.c daemon/engine/*.c daemon/conf/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)

all: $(BUILD)/libhob.a

$(BUILD)/libhob.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/hal/cpu/%_avx2.o: ISA = -mavx2 -mfma -mf16c
$(BUILD)/hal/cpu/%_avx512vnni.o: ISA = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(ISA) -MMD -MP -c $< -o $@

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all
