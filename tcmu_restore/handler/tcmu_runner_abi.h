/*
 * The part of tcmu-runner's binary interface that the handler uses, written from
 * the declarations of tcmu-runner itself, because no distribution packages the
 * headers of a plugin.
 *
 * Holds for tcmu-runner 1.5.4, 1.6.0, 1.6.1, 1.6.2 and its main branch at 1bdb239:
 * the files tcmu-runner.h (git blob 844904c646b4), libtcmu.h (8ac62329b42d),
 * libtcmu_log.h (c2924e22e4ed) and main-syms.txt (d3f00306bc0a) are the same in all
 * five, and so are the status enum and struct tcmulib_cmd of libtcmu_common.h.
 * tcmur_* are exported by the daemon, tcmu_* by libtcmu.so.2.
 */
#ifndef TCMU_RUNNER_ABI_H
#define TCMU_RUNNER_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct tcmu_device;

/* libtcmu_common.h; only the values that the handler returns */
enum tcmu_status {
	TCMU_STS_ASYNC_HANDLED = -2,
	TCMU_STS_NOT_HANDLED = -1,
	TCMU_STS_OK = 0,
	TCMU_STS_NO_RESOURCE = 1, /* SAM: TASK SET FULL */
	TCMU_STS_BUSY = 3,	  /* SAM: BUSY; the initiator tries again */
	TCMU_STS_WR_ERR = 4,	  /* 03/0C00 */
	TCMU_STS_RD_ERR = 5,	  /* 03/1100 */
	TCMU_STS_MISCOMPARE = 6,  /* 0E/1D00 */
	TCMU_STS_INVALID_CDB = 8, /* 05/2400 */
	TCMU_STS_HW_ERR = 13,	  /* 04/4400 */
	TCMU_STS_RANGE = 14,	  /* 05/2100 */
};

#define TCMU_SENSE_BUFFER_SIZE 96

/* libtcmu_common.h */
struct tcmulib_cmd {
	uint16_t cmd_id;
	uint8_t *cdb; /* a copy, as long as its operation code says */
	struct iovec *iovec;
	size_t iov_cnt;
	uint8_t sense_buf[TCMU_SENSE_BUFFER_SIZE];
	void *hm_private;
};

/*
 * tcmu-runner.h; the first fields. It lies right behind the CDB
 * (libtcmu.c:1171), so for 6 and 10 byte CDBs it is not aligned: copy fields out.
 */
struct tcmur_cmd {
	struct tcmulib_cmd *lib_cmd;
	struct iovec *iovec; /* of compound commands: memory of the daemon */
	size_t iov_cnt;
};

/* libtcmu.h */
enum tcmulib_cfg_type {
	TCMULIB_CFG_DEV_CFGSTR,
	TCMULIB_CFG_DEV_SIZE,
	TCMULIB_CFG_WRITE_CACHE,
};

struct tcmulib_cfg_info {
	enum tcmulib_cfg_type type;
	union {
		uint64_t dev_size;
		char *dev_cfgstring;
		bool write_cache;
	} data;
};

/* tcmu-runner.h */
struct tcmur_handler {
	const char *name;
	const char *subtype;
	const char *cfg_desc;
	void *opaque;
	bool (*check_config)(const char *cfgstring, char **reason);
	int (*reconfig)(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg);
	int (*open)(struct tcmu_device *dev, bool reopen);
	void (*close)(struct tcmu_device *dev);
	int nr_threads;
	int (*handle_cmd)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
	int (*read)(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iovec,
		    size_t iov_cnt, size_t len, off_t off);
	int (*write)(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iovec,
		     size_t iov_cnt, size_t len, off_t off);
	int (*flush)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
	int (*unmap)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len);
	int (*writesame)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off,
			 uint64_t len, struct iovec *iovec, size_t iov_cnt);
	int (*caw)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len,
		   struct iovec *iovec, size_t iov_cnt);
	int (*report_event)(struct tcmu_device *dev);
	int (*lock)(struct tcmu_device *dev, uint16_t tag);
	int (*unlock)(struct tcmu_device *dev);
	int (*get_lock_tag)(struct tcmu_device *dev, uint16_t *tag);
	int (*get_lock_state)(struct tcmu_device *dev);
	bool is_dbus_handler;
	bool (*update_logdir)(void);
	int (*init)(void);
	void (*destroy)(void);
};

#ifdef __LP64__
_Static_assert(offsetof(struct tcmulib_cmd, sense_buf) == 32, "struct tcmulib_cmd");
_Static_assert(offsetof(struct tcmur_handler, nr_threads) == 64, "struct tcmur_handler");
_Static_assert(offsetof(struct tcmur_handler, caw) == 120, "struct tcmur_handler");
_Static_assert(offsetof(struct tcmur_handler, init) == 184, "struct tcmur_handler");
_Static_assert(sizeof(struct tcmur_handler) == 200, "struct tcmur_handler");
_Static_assert(offsetof(struct tcmulib_cfg_info, data) == 8, "struct tcmulib_cfg_info");
#endif

/* exported by the daemon */
int tcmur_register_handler(struct tcmur_handler *handler);
void tcmur_cmd_complete(struct tcmu_device *dev, void *cmd, int status);
void tcmur_dev_set_private(struct tcmu_device *dev, void *handler_data);
void *tcmur_dev_get_private(struct tcmu_device *dev);

/* exported by libtcmu.so.2 */
char *tcmu_dev_get_cfgstring(struct tcmu_device *dev);
char *tcmu_dev_get_memory_info(struct tcmu_device *dev, void **base, size_t *length,
			       off_t *offset);
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device *dev);
uint32_t tcmu_dev_get_block_size(struct tcmu_device *dev);
uint32_t tcmu_dev_get_max_xfer_len(struct tcmu_device *dev);
void tcmu_dev_set_max_xfer_len(struct tcmu_device *dev, uint32_t blocks);
void tcmu_dev_set_opt_xcopy_rw_len(struct tcmu_device *dev, uint32_t blocks);
void tcmu_dev_set_opt_unmap_gran(struct tcmu_device *dev, uint32_t blocks, bool split);
void tcmu_dev_set_unmap_gran_align(struct tcmu_device *dev, uint32_t blocks);
void tcmu_dev_set_write_cache_enabled(struct tcmu_device *dev, bool enabled);
void tcmu_dev_set_solid_state_media(struct tcmu_device *dev, bool solid_state);
void tcmu_sense_set_info(uint8_t *sense_buf, uint32_t info);

__attribute__((format(printf, 4, 5))) void
tcmu_err_message(struct tcmu_device *dev, const char *function, int line, const char *format, ...);
__attribute__((format(printf, 4, 5))) void
tcmu_warn_message(struct tcmu_device *dev, const char *function, int line, const char *format,
		  ...);
__attribute__((format(printf, 4, 5))) void
tcmu_info_message(struct tcmu_device *dev, const char *function, int line, const char *format,
		  ...);
__attribute__((format(printf, 4, 5))) void
tcmu_dbg_message(struct tcmu_device *dev, const char *function, int line, const char *format, ...);

#endif
