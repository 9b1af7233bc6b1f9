/*
 * The glue alone, for the thread sanitizer: several threads queue on one device, one
 * drains and completes, and a last one closes. Python cannot be loaded under it.
 */
#define _GNU_SOURCE
#include "handler_glue.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCERS = 4, COMMANDS = 20000 };

struct tcmu_device {
	_Atomic(void *) private_data;
};

struct fake_command {
	struct tcmur_cmd base;
	struct tcmulib_cmd lib;
	uint8_t cdb[16];
	struct iovec iovec;
	uint64_t value;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
};

static struct tcmur_handler *handler;
static struct tcmu_device dev;
static int completed;

bool glue_start_interpreter(void) { return true; }
int glue_python_ready(void) { return GLUE_READY; }
int glue_python_init(void) { return 0; }
void glue_python_destroy(void) {}
int glue_python_open(struct tcmu_device *d, int reopen) { (void)d; return reopen; }
void glue_python_close(struct tcmu_device *d) { (void)d; }
int glue_python_resize(struct tcmu_device *d, uint64_t size) { (void)d; return (int)size; }

int glue_python_check_config(const char *config, char *reason, uint64_t size)
{
	(void)config;
	(void)reason;
	return (int)size;
}

int tcmur_register_handler(struct tcmur_handler *given) { handler = given; return 0; }
void tcmur_dev_set_private(struct tcmu_device *d, void *data) { d->private_data = data; }
void *tcmur_dev_get_private(struct tcmu_device *d) { return d->private_data; }
char *tcmu_dev_get_cfgstring(struct tcmu_device *d) { (void)d; return NULL; }
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device *d) { (void)d; return 0; }
uint32_t tcmu_dev_get_block_size(struct tcmu_device *d) { (void)d; return 0; }
uint32_t tcmu_dev_get_max_xfer_len(struct tcmu_device *d) { (void)d; return 0; }
void tcmu_dev_set_max_xfer_len(struct tcmu_device *d, uint32_t n) { (void)d; (void)n; }
void tcmu_dev_set_opt_xcopy_rw_len(struct tcmu_device *d, uint32_t n) { (void)d; (void)n; }
void tcmu_dev_set_unmap_gran_align(struct tcmu_device *d, uint32_t n) { (void)d; (void)n; }
void tcmu_dev_set_write_cache_enabled(struct tcmu_device *d, bool on) { (void)d; (void)on; }
void tcmu_dev_set_solid_state_media(struct tcmu_device *d, bool on) { (void)d; (void)on; }
void tcmu_sense_set_info(uint8_t *sense, uint32_t info) { (void)sense; (void)info; }

void tcmu_dev_set_opt_unmap_gran(struct tcmu_device *d, uint32_t n, bool split)
{
	(void)d;
	(void)n;
	(void)split;
}

char *tcmu_dev_get_memory_info(struct tcmu_device *d, void **base, size_t *size, off_t *offset)
{
	(void)d;
	(void)base;
	(void)size;
	(void)offset;
	return NULL;
}

#define DEFINE_LOG(name)                                                                           \
	void tcmu_##name##_message(struct tcmu_device *d, const char *function, int line,          \
				   const char *format, ...)                                        \
	{                                                                                          \
		(void)d;                                                                           \
		(void)function;                                                                    \
		(void)line;                                                                        \
		(void)format;                                                                      \
	}
DEFINE_LOG(err)
DEFINE_LOG(warn)
DEFINE_LOG(info)
DEFINE_LOG(dbg)

void tcmur_cmd_complete(struct tcmu_device *d, void *data, int status)
{
	struct fake_command *cmd = data;

	(void)d;
	(void)status;
	completed++; /* by one thread only: a race here is a finding */
	pthread_mutex_lock(&cmd->lock);
	cmd->is_done = true;
	pthread_cond_signal(&cmd->done);
	pthread_mutex_unlock(&cmd->lock);
}

static void *produce(void *count)
{
	struct fake_command cmd = {.cdb = {0x28, 8}};

	cmd.base.lib_cmd = &cmd.lib;
	cmd.lib.cdb = cmd.cdb;
	pthread_mutex_init(&cmd.lock, NULL);
	pthread_cond_init(&cmd.done, NULL);
	for (uint64_t i = 1; i <= COMMANDS; i++) {
		cmd.iovec = (struct iovec){&cmd.value, sizeof(cmd.value)};
		cmd.is_done = false;
		if (handler->read(&dev, &cmd.base, &cmd.iovec, 1, 8, (off_t)i) != TCMU_STS_OK)
			break; /* closing */
		pthread_mutex_lock(&cmd.lock);
		while (!cmd.is_done)
			pthread_cond_wait(&cmd.done, &cmd.lock);
		pthread_mutex_unlock(&cmd.lock);
		if (cmd.value != i)
			printf("FAIL %lu is not %lu\n", cmd.value, i);
		++*(uint64_t *)count;
	}
	return NULL;
}

static void serve(struct glue_device *device)
{
	struct glue_record records[16];
	struct glue_part parts[GLUE_PARTS_MAX];
	struct glue_completion done[16];
	int count = glue_drain(device, records, 16, parts, GLUE_PARTS_MAX);

	for (int i = 0; i < count; i++) {
		memcpy((void *)(uintptr_t)parts[i].address, &records[i].offset, 8);
		done[i] = (struct glue_completion){records[i].id, 0, 0};
	}
	if (glue_complete(device, done, count))
		printf("FAIL refused\n");
	if (count && glue_complete(device, done, 1) != 1)
		printf("FAIL completed twice\n");
}

int main(void)
{
	uint64_t counts[PRODUCERS] = {0}, sum = 0;
	pthread_t threads[PRODUCERS];
	struct glue_device *device = glue_device_create(&dev);
	struct pollfd poller = {.fd = glue_device_fd(device), .events = POLLIN};

	handler_init();
	glue_device_attach(device);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_create(&threads[i], NULL, produce, &counts[i]);
	while (completed < PRODUCERS * COMMANDS / 2 && poll(&poller, 1, 10000) == 1)
		serve(device);
	glue_device_stop(device);
	for (int i = 0; i < PRODUCERS; i++)
		serve(device); /* what waits */
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	if (glue_device_close(device))
		printf("FAIL open at close\n");
	glue_device_close_fd(device);
	for (int i = 0; i < PRODUCERS; i++)
		sum += counts[i];
	printf(sum == (uint64_t)completed ? "PASS %d\n" : "FAIL %d\n", completed);
	return 0;
}
