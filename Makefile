# make, make install      build and install the extension (PG_CONFIG chooses the server)
# make installcheck       SQL, isolation and TAP tests against an installed extension
# make demo               install what is missing, build, show it on real data, leave nothing behind
# make check, check-long  install what is missing, build, run every test on a private server
#                         (make check TESTS="unit regress" runs parts, PGVECTOR=1 takes the installed pgvector instead of the
#                         stand-in of test/vector; see test/check.sh)

# These install packages first, so they must work where there is no pg_config yet; and PGXS has a `check` of its own.
scripts = demo check check-long
ifneq ($(filter $(scripts),$(MAKECMDGOALS)),)

.PHONY: $(MAKECMDGOALS)
demo:
	@bench/demo.sh
check:
	@test/check.sh
check-long:
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} LONG=1 test/check.sh
ifneq ($(filter-out $(scripts),$(MAKECMDGOALS)),)
$(filter-out $(scripts),$(MAKECMDGOALS)):
	@$(MAKE) $@
endif

else

# Relative to the directory make runs in: `make -f ../../Makefile` in an empty directory builds there.
top := $(dir $(firstword $(MAKEFILE_LIST)))
core_sources := $(wildcard $(top)src/core/*.cpp $(top)src/core/*/*.cpp)
pg_sources := $(wildcard $(top)src/pg/*.cpp)

MODULE_big = ivfremote
OBJS = $(patsubst $(top)%.cpp,%.o,$(core_sources) $(pg_sources))
SHLIB_EXPORTS = exports.txt
EXTENSION = ivfremote ivfremote_pgvector
DATA = ivfremote--1.0.sql ivfremote_pgvector--1.0.sql
PGFILEDESC = "ivfremote - IVF vector index with its lists in object storage"

REGRESS := $(patsubst $(top)sql/%.sql,%,$(wildcard $(top)sql/*.sql))
ISOLATION := $(patsubst $(top)test/specs/%.spec,%,$(wildcard $(top)test/specs/*.spec))
ISOLATION_OPTS = --inputdir=$(top)test
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
EXTRA_CLEAN = $(OBJS:.o=.d) exports.list build

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) does not work: install the packages of packages.txt (test/lib/packages.sh prints the command))
endif

# Named by its directory, and found there again at run time: whichever BLAS the machine's alternatives point to, another
# variant brings its own threads. A compiler that doesn't find the directory prints the name unchanged.
OPENBLAS_DIR ?= $(realpath $(dir $(shell $(CXX) -print-file-name=openblas-openmp/libopenblas.so)))
ifeq ($(OPENBLAS_DIR),)
$(error libopenblas-openmp-dev is missing: install the packages of packages.txt, or set OPENBLAS_DIR)
endif

# -isystem: Postgres' headers are not clean under -Wextra in C++.
PG_CPPFLAGS = -I$(top)src -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CXXFLAGS = -std=c++20 -O2 -g -Wall -Wextra -Werror -Wno-register -fno-strict-aliasing -fwrapv
# Assertions of ours are for tests: in a server, one that fails ends every session.
ifdef TEST_FAULTS
PG_CPPFLAGS += -DIVFREMOTE_TEST_FAULTS
else
PG_CPPFLAGS += -DNDEBUG
endif
SHLIB_LINK = -l:libfaiss.a $(OPENBLAS_DIR)/libopenblas.so -Wl,-rpath,$(OPENBLAS_DIR) -lgomp -lhwy -lisal -lcurl -lcrypto -lexpat -lstdc++

# PGXS compiles bitcode without PG_CXXFLAGS.
override with_llvm = no
include $(PGXS)

# PGXS' VPATH also finds objects: a build elsewhere would take those of a `make` in the source tree.
VPATH =
vpath %.cpp $(top)
vpath %.txt $(top)
vpath %.control $(top)

src/core/kmeans.o: override CXXFLAGS += -fopenmp
$(OBJS): %.o: %.cpp $(top)Makefile
	@$(MKDIR_P) $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<
-include $(OBJS:.o=.d)

endif
