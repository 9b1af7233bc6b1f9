/*
 * A device's commands between tcmu-runner's threads, which queue them, and the engine's
 * thread, which drains and completes them.
 *
 * CMD-1: a command lives in a slot. Its id (slot number and a count that never repeats)
 * is good for one completion; a second, or one after close, is refused and counted.
 *
 * Completing a compound command (EXTENDED COPY, FORMAT UNIT, WRITE AND VERIFY) calls
 * read or write again from tcmur_cmd_complete (tcmu-runner.h:78-84). That call only
 * queues, so nothing recurses; it is why no lock is held while completing.
 */
#define _GNU_SOURCE
#include "handler_glue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	/* LIO's queue depth is 128 a device and an UNMAP makes four of one; more get TASK SET FULL */
	SLOT_COUNT = 4096,
	SLOT_BITS = 16,
	/* completed at a time, without the lock */
	COMPLETION_BATCH = 64,
};

enum slot_state { FREE = 0, QUEUED, TAKEN };

struct slot {
	struct glue_command command;
	uint64_t id;
	enum slot_state state;
	uint16_t next_free;
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

static void find_area(struct glue_device *device)
{
	char *map_name = tcmu_dev_get_memory_info(device->dev, &device->area, &device->area_size, NULL);

	if (!map_name)
		device->area_size = 0; /* Python then makes its views one by one */
	free(map_name);
}

struct glue_device *glue_device_create(struct tcmu_device *dev)
{
	struct glue_device *device = calloc(1, sizeof(*device));
	struct slot *slots = calloc(SLOT_COUNT, sizeof(*slots));
	uint16_t *queue = calloc(SLOT_COUNT, sizeof(*queue));
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (!device || !slots || !queue || event_fd < 0) {
		if (event_fd >= 0)
			close(event_fd);
		free(queue);
		free(slots);
		free(device);
		errno = event_fd < 0 ? EMFILE : ENOMEM;
		return NULL;
	}
	for (int i = 0; i < SLOT_COUNT; i++)
		slots[i].next_free = (uint16_t)(i + 1);
	*device = (struct glue_device){
		.dev = dev, .slots = slots, .queue = queue, .event_fd = event_fd};
	pthread_mutex_init(&device->lock, NULL);
	find_area(device);
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

static int queue_locked(struct glue_device *device, const struct glue_command *command)
{
	uint16_t number = device->first_free;
	struct slot *slot;

	if (!device->slots || device->stopped)
		return TCMU_STS_BUSY;
	if (command->iov_count > GLUE_PARTS_MAX)
		return TCMU_STS_INVALID_CDB; /* longer than VPD B0h allows */
	if (number >= SLOT_COUNT)
		return TCMU_STS_NO_RESOURCE;
	slot = &device->slots[number];
	device->first_free = slot->next_free;
	slot->command = *command;
	slot->state = QUEUED;
	slot->id = ++device->serial << SLOT_BITS | number;
	device->queue[(device->head + device->queued) % SLOT_COUNT] = number;
	device->in_use++;
	if (device->queued++ == 0)
		wake(device);
	return TCMU_STS_OK;
}

/* pthread_mutex_lock is no cancellation point, write() is */
int glue_enqueue(struct tcmu_device *dev, const struct glue_command *command)
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

/* Returns the number of parts, which is at most iov_count. Neighbours are joined. */
static uint32_t list_parts(const struct glue_command *command, struct glue_part *parts)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < command->iov_count; i++) {
		uint64_t address = (uintptr_t)command->iovec[i].iov_base;
		uint64_t length = command->iovec[i].iov_len;

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
	record->offset = slot->command.offset;
	record->length = slot->command.length;
	record->parts = list_parts(&slot->command, parts);
	record->kind = slot->command.kind;
	record->fua = slot->command.fua;
	record->opcode = slot->command.opcode;
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

		if (slot->command.iov_count > (uint32_t)parts_max - parts_used)
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
	return slot->command.cmd;
}

static void complete(struct tcmu_device *dev, struct tcmur_cmd *cmd,
		     const struct glue_completion *completion)
{
	/* for this status alone the daemon does not clear the sense buffer, which is malloc'd */
	if (completion->status == TCMU_STS_MISCOMPARE)
		tcmu_sense_set_info(glue_lib_cmd(cmd)->sense_buf, completion->information);
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
