/*
 * The thread edge between tcmu-runner and the engine; it holds no policy.
 *
 * tcmu-runner calls read, write, flush, unmap, writesame, caw and handle_cmd on one
 * "cmdproc" thread a device, which it ends with pthread_cancel (main.c:1125). Nothing
 * here may therefore run Python, block, or be a cancellation point with a lock held:
 * a callback notes the command in the device's queue and wakes the engine's thread,
 * which drains the queue and completes the commands (command_queue.c).
 *
 * What can reach unmap (tcmur_cmd_handler.c of 1.5.4, lines 294-383, 385-455, 670-715),
 * with granularity and alignment G blocks, split off as glue_describe sets it:
 * - UNMAP: every descriptor unchanged, in one call. 1 to 32 Mi blocks, *any* start and
 *   length, so partial regions too; up to four at once, which may overlap. An error that
 *   is *returned* reaches the initiator. One that a later completion gives is lost
 *   (line 250 tests the wrong way round): the initiator gets GOOD.
 * - WRITE SAME with UNMAP: only whole multiples of G from a multiple of G, in pieces of
 *   32 Mi blocks, other ones fall back to writesame. The block to write is ignored even
 *   if it isn't zeros, and errors are lost in the same way. handle_cmd below therefore
 *   clears the UNMAP bit: all of them reach writesame, which has neither fault, and a
 *   block of zeros means the same (rule ZERO-1).
 */
#define _GNU_SOURCE
#include "handler_glue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* engine/command.py, CommandKind */
enum command_kind { READ = 1, WRITE, FLUSH, UNMAP, WRITE_SAME, COMPARE_AND_WRITE };

enum opcode {
	OP_READ_10 = 0x28,
	OP_WRITE_10 = 0x2a,
	OP_WRITE_VERIFY_10 = 0x2e,
	OP_WRITE_SAME_10 = 0x41,
	OP_READ_16 = 0x88,
	OP_COMPARE_AND_WRITE = 0x89,
	OP_WRITE_16 = 0x8a,
	OP_WRITE_VERIFY_16 = 0x8e,
	OP_WRITE_SAME_16 = 0x93,
	OP_READ_12 = 0xa8,
	OP_WRITE_12 = 0xaa,
};

/* --- callbacks on cmdproc threads --------------------------------------------------- */

/*
 * SBC-4: FUA is bit 3 of byte 1, but not in 6 byte commands (part of the LBA) nor in
 * WRITE SAME (UNMAP). WRITE AND VERIFY writes to the medium by definition.
 */
static bool wants_fua(const uint8_t *cdb)
{
	switch (cdb[0]) {
	case OP_READ_10:
	case OP_READ_12:
	case OP_READ_16:
	case OP_WRITE_10:
	case OP_WRITE_12:
	case OP_WRITE_16:
	case OP_COMPARE_AND_WRITE:
		return cdb[1] & 0x08;
	case OP_WRITE_VERIFY_10:
	case OP_WRITE_VERIFY_16:
		return true;
	default:
		return false;
	}
}

struct tcmulib_cmd *glue_lib_cmd(const struct tcmur_cmd *cmd)
{
	struct tcmulib_cmd *lib_cmd;

	memcpy(&lib_cmd, (const char *)cmd + offsetof(struct tcmur_cmd, lib_cmd), sizeof(lib_cmd));
	return lib_cmd;
}

static int submit(struct tcmu_device *dev, struct tcmur_cmd *cmd, enum command_kind kind,
		  uint64_t offset, uint64_t length, struct iovec *iovec, size_t iov_count)
{
	const uint8_t *cdb = glue_lib_cmd(cmd)->cdb;
	struct glue_command command = {
		.cmd = cmd,
		.iovec = iovec,
		.offset = offset,
		.length = length,
		.iov_count = iov_count,
		.kind = (uint8_t)kind,
		.fua = wants_fua(cdb),
		.opcode = cdb[0],
	};

	return glue_enqueue(dev, &command);
}

static int read_command(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iovec,
			size_t iov_cnt, size_t len, off_t off)
{
	return submit(dev, cmd, READ, (uint64_t)off, len, iovec, iov_cnt);
}

static int write_command(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iovec,
			 size_t iov_cnt, size_t len, off_t off)
{
	return submit(dev, cmd, WRITE, (uint64_t)off, len, iovec, iov_cnt);
}

static int flush_command(struct tcmu_device *dev, struct tcmur_cmd *cmd)
{
	return submit(dev, cmd, FLUSH, 0, 0, NULL, 0);
}

static int unmap_command(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len)
{
	return submit(dev, cmd, UNMAP, off, len, NULL, 0);
}

static int writesame_command(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off,
			     uint64_t len, struct iovec *iovec, size_t iov_cnt)
{
	return submit(dev, cmd, WRITE_SAME, off, len, iovec, iov_cnt);
}

static int caw_command(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len,
		       struct iovec *iovec, size_t iov_cnt)
{
	return submit(dev, cmd, COMPARE_AND_WRITE, off, len, iovec, iov_cnt);
}

/*
 * Sees every command first and may only answer at once (tcmur_cmd_handler.c:2289). It
 * refuses what the daemon ignores although nothing here supports it: protection
 * information (INQUIRY says PROTECT=0, so SBC-4 table "RDPROTECT" wants INVALID FIELD IN
 * CDB) and anchoring (VPD B2h says ANC_SUP=0). The CDB is the daemon's own copy.
 */
static int handle_command(struct tcmu_device *dev, struct tcmur_cmd *cmd)
{
	uint8_t *cdb = glue_lib_cmd(cmd)->cdb;

	(void)dev;
	switch (cdb[0]) {
	case OP_WRITE_SAME_10:
	case OP_WRITE_SAME_16:
		if (cdb[1] & 0xf0)
			return TCMU_STS_INVALID_CDB;
		cdb[1] &= (uint8_t)~0x08;
		return TCMU_STS_NOT_HANDLED;
	case OP_READ_10:
	case OP_READ_12:
	case OP_READ_16:
	case OP_WRITE_10:
	case OP_WRITE_12:
	case OP_WRITE_16:
	case OP_WRITE_VERIFY_10:
	case OP_WRITE_VERIFY_16:
	case OP_COMPARE_AND_WRITE:
		return cdb[1] & 0xe0 ? TCMU_STS_INVALID_CDB : TCMU_STS_NOT_HANDLED;
	default:
		return TCMU_STS_NOT_HANDLED;
	}
}

/* --- callbacks that Python answers -------------------------------------------------- */

void glue_log(int level, const char *text)
{
	if (level <= 3)
		tcmu_err_message(NULL, "restore", 0, "%s\n", text);
	else if (level == 4)
		tcmu_warn_message(NULL, "restore", 0, "%s\n", text);
	else if (level <= 6)
		tcmu_info_message(NULL, "restore", 0, "%s\n", text);
	else
		tcmu_dbg_message(NULL, "restore", 0, "%s\n", text);
}

uint64_t glue_blocks(struct tcmu_device *dev)
{
	return tcmu_dev_get_num_lbas(dev);
}

uint32_t glue_block_size(struct tcmu_device *dev)
{
	return tcmu_dev_get_block_size(dev);
}

const char *glue_config(struct tcmu_device *dev)
{
	return tcmu_dev_get_cfgstring(dev);
}

struct glue_device *glue_device_of(struct tcmu_device *dev)
{
	return tcmur_dev_get_private(dev);
}

/*
 * The transfer length is the largest and the optimal one of VPD B0h, and a divisor in the
 * daemon: 0 would kill it. So would an alignment of 0 (its default) in WRITE SAME.
 */
void glue_describe(struct tcmu_device *dev, uint32_t transfer_blocks, uint32_t unmap_blocks)
{
	if (tcmu_dev_get_max_xfer_len(dev) < transfer_blocks)
		tcmu_dev_set_max_xfer_len(dev, transfer_blocks);
	tcmu_dev_set_opt_xcopy_rw_len(dev, transfer_blocks);
	tcmu_dev_set_opt_unmap_gran(dev, unmap_blocks, false);
	tcmu_dev_set_unmap_gran_align(dev, unmap_blocks);
	tcmu_dev_set_write_cache_enabled(dev, true);
	tcmu_dev_set_solid_state_media(dev, true);
}

static bool check_config(const char *cfgstring, char **reason)
{
	/* D-Bus wants one sentence; tcmu-runner frees it */
	char text[GLUE_REASON_SIZE] = "The handler could not check it; see tcmu-runner's log.";

	if (glue_python_check_config(cfgstring, text, sizeof(text)) == 1)
		return true;
	text[sizeof(text) - 1] = '\0';
	*reason = malloc(sizeof(text));
	if (*reason)
		memcpy(*reason, text, sizeof(text));
	return false;
}

/* A reopen comes from a thread that may be cancelled, and so may a close: see close_device. */
static int open_device(struct tcmu_device *dev, bool reopen)
{
	int state, result;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	result = glue_python_open(dev, reopen);
	pthread_setcancelstate(state, NULL);
	return result;
}

/*
 * At removal this runs in the cmdproc thread while it is being cancelled: tcmur_stop_device
 * is that thread's cleanup handler (main.c:795, 1125). By then no callback is running.
 */
static void close_device(struct tcmu_device *dev)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	glue_python_close(dev);
	pthread_setcancelstate(state, NULL);
}

static int reconfigure(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg)
{
	switch (cfg->type) {
	case TCMULIB_CFG_DEV_SIZE:
		return glue_python_resize(dev, cfg->data.dev_size);
	case TCMULIB_CFG_DEV_CFGSTR:
		/* rtslib writes every attribute on restore: the same again is no error */
		return strcmp(cfg->data.dev_cfgstring, tcmu_dev_get_cfgstring(dev)) ? -EOPNOTSUPP
										     : 0;
	case TCMULIB_CFG_WRITE_CACHE:
		/* rtslib restores 0, the kernel's default. WCE stays 1: then hosts flush. */
		return 0;
	}
	return -EOPNOTSUPP;
}

static struct tcmur_handler handler = {
	.name = "Instant restore handler",
	.subtype = "restore",
	.cfg_desc = "restore/NAME: the volume that /etc/tcmu-restore/volumes/NAME.toml defines",
	.nr_threads = 0,
	.check_config = check_config,
	.reconfig = reconfigure,
	.open = open_device,
	.close = close_device,
	.handle_cmd = handle_command,
	.read = read_command,
	.write = write_command,
	.flush = flush_command,
	.unmap = unmap_command,
	.writesame = writesame_command,
	.caw = caw_command,
	.init = glue_python_init,
	.destroy = glue_python_destroy,
};

/* What tcmu-runner looks up. It goes on without this handler if the result isn't 0. */
__attribute__((visibility("default"))) int handler_init(void)
{
	if (!glue_start_interpreter())
		return -1;
	/* cffi answers 0 if the Python side could not be imported */
	if (glue_python_ready() != GLUE_READY) {
		glue_log(3, "The Python side could not be loaded; its traceback is on standard error.");
		return -1;
	}
	return tcmur_register_handler(&handler);
}
