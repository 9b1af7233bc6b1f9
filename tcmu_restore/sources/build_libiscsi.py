"""Builds ``tcmu_restore.sources._libiscsi``, the binding to libiscsi, with cffi's API mode.

API mode on purpose: the C compiler reads the distribution's own headers, and
``struct scsi_sense`` differs between libiscsi 1.19 (Debian 12) and 1.20 (Debian
13) under the same soname. Needs ``libiscsi-dev`` and a C compiler.

Run by ``setup.py``; nothing imports this module at run time.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

_CDEF = """
#define POLLIN ...
#define POLLOUT ...
#define POLLERR ...
#define POLLHUP ...
#define LC_PENDING ...
#define SCSI_STATUS_REDIRECT ...
#define SCSI_XFER_NONE ...
#define SCSI_XFER_READ ...
#define SCSI_XFER_WRITE ...

struct lc_part { void *base; size_t length; };

struct lc_failure {
    uint64_t tag;
    int status;
    int sense_key;
    int asc_ascq;
    uint32_t residual;
};

struct lc_context {
    struct iscsi_context *iscsi;
    int fd;
    int connect_status;
    int login_status;
    int logout_status;
    char error[256];
    int live_count;
    int parked_count;
    int good_count;
    int failed_count;
    uint64_t *good;
    struct lc_failure *failed;
    ...;
};

struct lc_context *lc_create(const char *initiator, const char *target, int lun, uint32_t isid,
                             uint32_t isid_qualifier, int header_digest, int tcp_timeout_ms);
int lc_set_chap(struct lc_context *, const char *user, const char *password,
                const char *target_user, const char *target_password);
void lc_destroy(struct lc_context *);
int lc_connect(struct lc_context *, const char *portal, const char *host, const char *port,
               const char *interface, const char *source);
uint64_t lc_moved(struct lc_context *);
int lc_login(struct lc_context *);
int lc_logout(struct lc_context *);
int lc_nop(struct lc_context *);
int lc_submit(struct lc_context *, uint64_t tag, const uint8_t *cdb, int cdb_length, int direction,
              uint32_t length, const struct lc_part *parts, int part_count);
int lc_submit_one(struct lc_context *, uint64_t tag, const uint8_t *cdb, int cdb_length,
                  int direction, uint32_t length, void *base);
int lc_service(struct lc_context *, int revents);

const char *iscsi_get_error(struct iscsi_context *);
int iscsi_get_nops_in_flight(struct iscsi_context *);
"""

_PART = "#include <stddef.h>\nstruct lc_part { void *base; size_t length; };\n"

ffibuilder = FFI()
ffibuilder.cdef(_CDEF)
ffibuilder.set_source(
    "tcmu_restore.sources._libiscsi",
    _PART + Path(__file__).with_name("libiscsi_shim.c").read_text(encoding="utf-8"),
    libraries=["iscsi"],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
