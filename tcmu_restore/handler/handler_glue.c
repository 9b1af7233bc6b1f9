/*
 * The thread edge between tcmu-runner and the engine; it holds no policy.
 *
 * tcmu-runner calls read, write, flush, unmap, writesame, caw and handle_cmd on one
 * "cmdproc" thread a device, which it ends with pthread_cancel (main.c:1125). Nothing
 * here may therefore run Python, block, or be a cancellation point with a lock held:
 * a callback notes the command in the device's queue and wakes the engine's thread,
 * which drains the queue and completes the commands.
 *
 * Completing a compound command (EXTENDED COPY, FORMAT UNIT, WRITE AND VERIFY) calls
 * read or write again from tcmur_cmd_complete (tcmu-runner.h:78-84). That call only
 * queues, so nothing recurses; it is why no lock is held while completing.
 *
 * CMD-1: a command lives in a slot. Its id (slot number and a count that never repeats)
 * is good for one completion; a second, or one after close, is refused and counted.
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
#include <sys/eventfd.h>
#include <unistd.h>

/* engine/command.py, CommandKind */
enum command_kind { READ = 1, WRITE, FLUSH, UNMAP, WRITE_SAME, COMPARE_AND_WRITE };

enum {
	/* LIO's queue depth is 128 a device and an UNMAP makes four of one; more get TASK SET FULL */
	SLOT_COUNT = 4096,
	/* a page each: more than a 16 MiB command in scattered pages, against the 1 MiB of VPD B0h */
	PARTS_MAX = GLUE_PARTS_MAX,
	/* completed at a time, without the lock */
	COMPLETION_BATCH = 64,
	SLOT_BITS = 16,
};

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

enum slot_state { FREE = 0, QUEUED, TAKEN };

struct slot {
	struct tcmur_cmd *cmd;
	struct iovec *iovec;
	uint64_t id;
	uint64_t offset;
	uint64_t length;
	uint32_t iov_count;
	uint16_t next_free;
	uint8_t kind;
	uint8_t fua;
	uint8_t opcode;
	uint8_t state;
};

/*
 * A command that another thread holds may still name a device after close, so the
 * struct itself is never freed (it is small, and devices come and go rarely); what it
 * owns is.
 */
struct glue_device {
	struct tcmu_device *dev;
	void *area;
	size_t area_size;
	pthread_mutex_t lock; /* protects everything below */
	struct slot *slots;   /* NULL: closed */
	uint16_t *queue;      /* a ring of slot numbers, as long as slots: never full */
	uint32_t head, queued, in_use;
	uint16_t first_free;
	uint64_t serial;
	int event_fd;
	bool stopped;
};

/* --- the queue ---------------------------------------------------------------------- */

struct glue_device *glue_device_create(struct tcmu_device *dev)
{
	struct glue_device *device = calloc(1, sizeof(*device));
	char *map_name;

	if (!device)
		return NULL;
	device->dev = dev;
	device->slots = calloc(SLOT_COUNT, sizeof(*device->slots));
	device->queue = calloc(SLOT_COUNT, sizeof(*device->queue));
	device->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!device->slots || !device->queue || device->event_fd < 0) {
		int error = device->event_fd < 0 ? errno : ENOMEM;

		if (device->event_fd >= 0)
			close(device->event_fd);
		free(device->queue);
		free(device->slots);
		free(device);
		errno = error;
		return NULL;
	}
	for (int i = 0; i < SLOT_COUNT; i++)
		device->slots[i].next_free = (uint16_t)(i + 1);
	pthread_mutex_init(&device->lock, NULL);
	map_name = tcmu_dev_get_memory_info(dev, &device->area, &device->area_size, NULL);
	if (!map_name)
		device->area_size = 0;
	free(map_name);
	return device;
}

void glue_device_attach(struct glue_device *device)
{
	tcmur_dev_set_private(device->dev, device);
}

int glue_device_fd(const struct glue_device *device)
{
	return device->event_fd;
}

void *glue_device_area(const struct glue_device *device)
{
	return device->area;
}

uint64_t glue_device_area_size(const struct glue_device *device)
{
	return device->area_size;
}

/* Called with the lock held, so that the descriptor isn't closed and used for something else. */
static void wake(struct glue_device *device)
{
	uint64_t one = 1;
	ssize_t written = write(device->event_fd, &one, sizeof(one));

	(void)written; /* EAGAIN: the count is at its end, so it is readable */
}

static int queue_locked(struct glue_device *device, const struct slot *command)
{
	uint16_t number = device->first_free;
	struct slot *slot;

	if (!device->slots || device->stopped)
		return TCMU_STS_BUSY;
	if (command->iov_count > PARTS_MAX)
		return TCMU_STS_INVALID_CDB; /* longer than VPD B0h allows */
	if (number >= SLOT_COUNT)
		return TCMU_STS_NO_RESOURCE;
	slot = &device->slots[number];
	device->first_free = slot->next_free;
	*slot = *command;
	slot->state = QUEUED;
	slot->id = ++device->serial << SLOT_BITS | number;
	device->queue[(device->head + device->queued) % SLOT_COUNT] = number;
	device->in_use++;
	if (device->queued++ == 0)
		wake(device);
	return TCMU_STS_OK;
}

/* pthread_mutex_lock is no cancellation point, write() is */
static int enqueue(struct tcmu_device *dev, struct slot *command)
{
	struct glue_device *device = tcmur_dev_get_private(dev);
	int state, status;

	if (!device)
		return TCMU_STS_BUSY;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(&device->lock);
	status = queue_locked(device, command);
	pthread_mutex_unlock(&device->lock);
	pthread_setcancelstate(state, NULL);
	return status;
}

/* Returns the number of parts, which is at most slot->iov_count. Neighbours are joined. */
static uint32_t list_parts(const struct slot *slot, struct glue_part *parts)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < slot->iov_count; i++) {
		uint64_t address = (uintptr_t)slot->iovec[i].iov_base;
		uint64_t length = slot->iovec[i].iov_len;

		if (length == 0)
			continue;
		if (count && parts[count - 1].address + parts[count - 1].length == address) {
			parts[count - 1].length += length;
			continue;
		}
		parts[count].address = address;
		parts[count].length = length;
		count++;
	}
	return count;
}

static void take(struct slot *slot, struct glue_record *record, struct glue_part *parts)
{
	record->id = slot->id;
	record->offset = slot->offset;
	record->length = slot->length;
	record->parts = list_parts(slot, parts);
	record->kind = slot->kind;
	record->fua = slot->fua;
	record->opcode = slot->opcode;
	record->reserved = 0;
	slot->state = TAKEN;
}

int glue_drain(struct glue_device *device, struct glue_record *records, int records_max,
	       struct glue_part *parts, int parts_max)
{
	uint32_t parts_used = 0;
	uint64_t count;
	int taken = 0;
	ssize_t got = read(device->event_fd, &count, sizeof(count));

	(void)got; /* EAGAIN: woken for nothing */
	pthread_mutex_lock(&device->lock);
	while (device->queued && taken < records_max) {
		struct slot *slot = &device->slots[device->queue[device->head]];

		if (slot->iov_count > (uint32_t)parts_max - parts_used)
			break;
		take(slot, &records[taken], &parts[parts_used]);
		parts_used += records[taken].parts;
		taken++;
		device->head = (device->head + 1) % SLOT_COUNT;
		device->queued--;
	}
	if (device->queued)
		wake(device);
	pthread_mutex_unlock(&device->lock);
	return taken;
}

/* Returns the command that *id* names and frees its slot, or NULL. */
static struct tcmur_cmd *release_locked(struct glue_device *device, uint64_t id)
{
	uint64_t number = id & ((1U << SLOT_BITS) - 1);
	struct slot *slot;

	if (!device->slots || number >= SLOT_COUNT)
		return NULL;
	slot = &device->slots[number];
	if (slot->state != TAKEN || slot->id != id)
		return NULL;
	slot->state = FREE;
	slot->next_free = device->first_free;
	device->first_free = (uint16_t)number;
	device->in_use--;
	return slot->cmd;
}

static struct tcmulib_cmd *lib_cmd_of(const struct tcmur_cmd *cmd)
{
	struct tcmulib_cmd *lib_cmd;

	memcpy(&lib_cmd, (const char *)cmd + offsetof(struct tcmur_cmd, lib_cmd), sizeof(lib_cmd));
	return lib_cmd;
}

static void complete(struct tcmu_device *dev, struct tcmur_cmd *cmd,
		     const struct glue_completion *completion)
{
	/* for this status alone the daemon does not clear the sense buffer, which is malloc'd */
	if (completion->status == TCMU_STS_MISCOMPARE)
		tcmu_sense_set_info(lib_cmd_of(cmd)->sense_buf, completion->information);
	tcmur_cmd_complete(dev, cmd, completion->status);
}

/* Returns how many of *count*, at most COMPLETION_BATCH, were refused. */
static int complete_batch(struct glue_device *device, const struct glue_completion *completions,
			  int count)
{
	struct tcmur_cmd *cmds[COMPLETION_BATCH];
	int refused = 0;

	pthread_mutex_lock(&device->lock);
	for (int i = 0; i < count; i++) {
		cmds[i] = release_locked(device, completions[i].id);
		refused += cmds[i] == NULL;
	}
	pthread_mutex_unlock(&device->lock);
	for (int i = 0; i < count; i++)
		if (cmds[i])
			complete(device->dev, cmds[i], &completions[i]);
	return refused;
}

int glue_complete(struct glue_device *device, const struct glue_completion *completions, int count)
{
	int refused = 0;

	for (int done = 0; done < count; done += COMPLETION_BATCH) {
		int batch = count - done < COMPLETION_BATCH ? count - done : COMPLETION_BATCH;

		refused += complete_batch(device, completions + done, batch);
	}
	return refused;
}

void glue_device_stop(struct glue_device *device)
{
	pthread_mutex_lock(&device->lock);
	device->stopped = true;
	pthread_mutex_unlock(&device->lock);
}

int glue_device_close(struct glue_device *device)
{
	int open_count;

	if (tcmur_dev_get_private(device->dev) == device)
		tcmur_dev_set_private(device->dev, NULL);
	pthread_mutex_lock(&device->lock);
	open_count = (int)device->in_use;
	free(device->slots);
	free(device->queue);
	device->slots = NULL;
	device->queue = NULL;
	device->queued = 0;
	device->stopped = true;
	pthread_mutex_unlock(&device->lock);
	return open_count;
}

void glue_device_close_fd(struct glue_device *device)
{
	pthread_mutex_lock(&device->lock);
	device->stopped = true; /* so nobody writes to it */
	if (device->event_fd >= 0)
		close(device->event_fd);
	device->event_fd = -1;
	pthread_mutex_unlock(&device->lock);
}

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

static int submit(struct tcmu_device *dev, struct tcmur_cmd *cmd, enum command_kind kind,
		  uint64_t offset, uint64_t length, struct iovec *iovec, size_t iov_count)
{
	const uint8_t *cdb = lib_cmd_of(cmd)->cdb;
	struct slot command = {
		.cmd = cmd,
		.iovec = iovec,
		.offset = offset,
		.length = length,
		.iov_count = iov_count > PARTS_MAX ? PARTS_MAX + 1 : (uint32_t)iov_count,
		.kind = (uint8_t)kind,
		.fua = wants_fua(cdb),
		.opcode = cdb[0],
	};

	return enqueue(dev, &command);
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
	uint8_t *cdb = lib_cmd_of(cmd)->cdb;

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
