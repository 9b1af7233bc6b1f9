/*
 * tcmu-runner without a kernel: loads the plugin as main.c:open_handlers does and drives it
 * as tcmur_cmd_handler.c does (1.5.4, nr_threads 0), with an oracle for every block.
 *
 * usage: fake_runner PLUGIN SCENARIO [COUNT]; prints PASS or FAIL lines, exits 0 if all pass.
 *
 * What is kept of the original, because mistakes hide there: the command is one malloc'd
 * block with the handler's part behind the CDB, unaligned; it is freed in completion; a 0
 * from a callback means queued; compound commands call read and write again from
 * tcmur_cmd_complete; at removal the cmdproc thread is cancelled, and close() runs in it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tcmu_runner_abi.h"

enum { BLOCK = 512, BLOCKS = 8192, COMMAND_BLOCKS = 64, DEPTH = 48, DEVICES = 3, PARTS = 5 };
enum { SPAN = COMMAND_BLOCKS * BLOCK, ROOM = 2 * SPAN };

struct command {
	struct tcmur_cmd base; /* lib_cmd, iovec, iov_cnt */
	void (*done)(struct tcmu_device *dev, struct command *cmd, int status);
	uint64_t first, count; /* blocks */
	uint64_t stamp;
	uint8_t *buffer; /* of the area, ROOM bytes */
	uint8_t *own;	 /* of compound commands */
	struct iovec own_iovec;
	int room;
	int want; /* expected status, or ANY */
};

enum { ANY = 1000 };

struct tcmu_device {
	char config[64];
	void *private_data;
	uint8_t *area;
	uint64_t stamps[BLOCKS]; /* the oracle: 0 is zeros */
	bool busy[BLOCKS];
	bool rooms[DEPTH];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t cmdproc;
	unsigned seed;
	int in_flight, submitted, completed, refused, goal, bad;
	int statuses[32];
	bool is_open, is_stopped;
	uint32_t max_xfer, xcopy, unmap_gran, unmap_align;
	bool split, write_cache, solid_state;
	uint32_t information;
	bool has_information;
};

static struct tcmur_handler *handler;
static int failures;
static int init_result;
static bool is_quiet_log;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("FAIL line %d: ", __LINE__);                                        \
			printf(__VA_ARGS__);                                                       \
			printf("\n");                                                              \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

/* --- exports, as in main-syms.txt and libtcmu ------------------------------------------ */

int tcmur_register_handler(struct tcmur_handler *given)
{
	if (given->init) {
		init_result = given->init();
		if (init_result)
			return init_result;
	}
	handler = given;
	return 0;
}

void tcmur_cmd_complete(struct tcmu_device *dev, void *data, int status)
{
	struct command cmd;

	memcpy(&cmd, data, sizeof(cmd)); /* it isn't aligned */
	cmd.done(dev, data, status);
}

void tcmur_dev_set_private(struct tcmu_device *dev, void *data) { dev->private_data = data; }
void *tcmur_dev_get_private(struct tcmu_device *dev) { return dev->private_data; }
char *tcmu_dev_get_cfgstring(struct tcmu_device *dev) { return dev->config; }
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device *dev) { (void)dev; return BLOCKS; }
uint32_t tcmu_dev_get_block_size(struct tcmu_device *dev) { (void)dev; return BLOCK; }
uint32_t tcmu_dev_get_max_xfer_len(struct tcmu_device *dev) { return dev->max_xfer; }
void tcmu_dev_set_max_xfer_len(struct tcmu_device *dev, uint32_t n) { dev->max_xfer = n; }
void tcmu_dev_set_opt_xcopy_rw_len(struct tcmu_device *dev, uint32_t n) { dev->xcopy = n; }
void tcmu_dev_set_unmap_gran_align(struct tcmu_device *dev, uint32_t n) { dev->unmap_align = n; }
void tcmu_dev_set_write_cache_enabled(struct tcmu_device *dev, bool on) { dev->write_cache = on; }
void tcmu_dev_set_solid_state_media(struct tcmu_device *dev, bool on) { dev->solid_state = on; }

void tcmu_dev_set_opt_unmap_gran(struct tcmu_device *dev, uint32_t n, bool split)
{
	dev->unmap_gran = n;
	dev->split = split;
}

char *tcmu_dev_get_memory_info(struct tcmu_device *dev, void **base, size_t *length, off_t *offset)
{
	(void)offset;
	*base = dev->area;
	*length = (size_t)DEPTH * ROOM;
	return strdup("/dev/uio0");
}

void tcmu_sense_set_info(uint8_t *sense, uint32_t info)
{
	memset(sense, 0, 18);
	sense[0] |= 0x80;
	for (int i = 0; i < 4; i++)
		sense[3 + i] = (uint8_t)(info >> (24 - 8 * i));
}

#define DEFINE_LOG(name, letter)                                                                   \
	void tcmu_##name##_message(struct tcmu_device *dev, const char *function, int line,        \
				   const char *format, ...)                                        \
	{                                                                                          \
		va_list arguments;                                                                 \
		(void)dev;                                                                         \
		(void)line;                                                                        \
		if (is_quiet_log)                                                                  \
			return;                                                                    \
		va_start(arguments, format);                                                       \
		printf("LOG %c %s: ", letter, function);                                           \
		vprintf(format, arguments);                                                        \
		va_end(arguments);                                                                 \
	}
DEFINE_LOG(err, 'E')
DEFINE_LOG(warn, 'W')
DEFINE_LOG(info, 'I')
DEFINE_LOG(dbg, 'D')

/* --- commands -------------------------------------------------------------------------- */

static struct tcmulib_cmd *make_command(struct tcmu_device *dev, const uint8_t *cdb, int cdb_length,
					int parts, int room)
{
	size_t iovecs = sizeof(struct iovec) * (size_t)parts;
	struct tcmulib_cmd *lib = malloc(sizeof(*lib) + sizeof(struct command) +
					 (size_t)cdb_length + iovecs);
	struct command cmd = {.room = room, .want = 0};

	memset(lib->sense_buf, 0xa5, sizeof(lib->sense_buf));
	lib->iov_cnt = (size_t)parts;
	lib->iovec = (struct iovec *)(lib + 1);
	lib->cdb = (uint8_t *)lib->iovec + iovecs;
	memcpy(lib->cdb, cdb, (size_t)cdb_length);
	lib->hm_private = lib->cdb + cdb_length; /* unaligned, as in libtcmu.c:1171 */
	cmd.base.lib_cmd = lib;
	cmd.buffer = room >= 0 ? dev->area + (size_t)room * ROOM : NULL;
	memcpy(lib->hm_private, &cmd, sizeof(cmd));
	return lib;
}

static void set_command(struct tcmulib_cmd *lib, const struct command *cmd)
{
	memcpy(lib->hm_private, cmd, sizeof(*cmd));
}

static struct command get_command(const void *data)
{
	struct command cmd;

	memcpy(&cmd, data, sizeof(cmd));
	return cmd;
}

/* cuts *length* bytes into pieces, some of them neighbours, some of them empty */
static void fill_iovec(struct tcmulib_cmd *lib, uint8_t *start, size_t length)
{
	size_t count = lib->iov_cnt, piece = length / count / BLOCK * BLOCK;

	for (size_t i = 0; i < count; i++) {
		lib->iovec[i].iov_base = start;
		lib->iovec[i].iov_len = i + 1 < count ? piece : length - i * piece;
		start += piece + (i % 2 ? BLOCK : 0);
	}
}

static void scatter(struct tcmulib_cmd *lib, const uint8_t *from)
{
	for (size_t i = 0; i < lib->iov_cnt; from += lib->iovec[i++].iov_len)
		memcpy(lib->iovec[i].iov_base, from, lib->iovec[i].iov_len);
}

static void gather(uint8_t *to, const struct tcmulib_cmd *lib)
{
	for (size_t i = 0; i < lib->iov_cnt; to += lib->iovec[i++].iov_len)
		memcpy(to, lib->iovec[i].iov_base, lib->iovec[i].iov_len);
}

static void write_stamps(uint8_t *at, uint64_t first, uint64_t count, uint64_t stamp)
{
	for (uint64_t b = 0; b < count; b++)
		for (int i = 0; i < BLOCK / 8; i++) {
			uint64_t word = stamp ? stamp * 1000003 + (first + b) * 64 + (uint64_t)i : 0;

			memcpy(at + b * BLOCK + i * 8, &word, 8);
		}
}

static bool has_stamp(const uint8_t *at, uint64_t block, uint64_t stamp)
{
	uint8_t want[BLOCK];

	write_stamps(want, block, 1, stamp);
	return memcmp(at, want, BLOCK) == 0;
}

static void finish(struct tcmu_device *dev, struct command *data, int status)
{
	struct command cmd = get_command(data);
	struct tcmulib_cmd *lib = cmd.base.lib_cmd;

	pthread_mutex_lock(&dev->lock);
	dev->statuses[status & 31]++;
	if (cmd.want != ANY && status != cmd.want)
		dev->bad++;
	if (status == 6) {
		dev->has_information = lib->sense_buf[0] & 0x80;
		dev->information = (uint32_t)(lib->sense_buf[5] << 8 | lib->sense_buf[6]);
	}
	for (uint64_t b = cmd.first; b < cmd.first + cmd.count; b++)
		dev->busy[b] = false;
	if (cmd.room >= 0) {
		memset(cmd.buffer, 0xdd, ROOM); /* a late touch shows in what is read later */
		dev->rooms[cmd.room] = false;
	}
	free(cmd.own);
	memset(lib, 0xee, sizeof(*lib) + sizeof(struct command));
	free(lib);
	dev->in_flight--;
	dev->completed++;
	pthread_cond_broadcast(&dev->changed);
	pthread_mutex_unlock(&dev->lock);
}

static void check_read(struct tcmu_device *dev, struct command *data, int status)
{
	struct command cmd = get_command(data);
	uint8_t got[SPAN];

	gather(got, cmd.base.lib_cmd);
	for (uint64_t b = 0; status == 0 && b < cmd.count; b++)
		if (!has_stamp(got + b * BLOCK, cmd.first + b, dev->stamps[cmd.first + b])) {
			dev->bad++;
			CHECK(false, "%s: block %lu is wrong", dev->config, cmd.first + b);
			break;
		}
	finish(dev, data, status);
}

static void note_write(struct tcmu_device *dev, struct command *data, int status)
{
	struct command cmd = get_command(data);

	for (uint64_t b = 0; status == 0 && b < cmd.count; b++)
		dev->stamps[cmd.first + b] = cmd.stamp;
	finish(dev, data, status);
}

/* WRITE AND VERIFY: the completion of the write calls read with memory of the daemon's */
static void verify_read(struct tcmu_device *dev, struct command *data, int status)
{
	struct command cmd = get_command(data);
	uint8_t written[SPAN];

	gather(written, cmd.base.lib_cmd);
	if (status == 0 && memcmp(cmd.own, written, cmd.count * BLOCK))
		CHECK(false, "%s: verify failed at block %lu", dev->config, cmd.first);
	note_write(dev, data, status);
}

static __thread int completing;

static void verify_write(struct tcmu_device *dev, struct command *data, int status)
{
	struct command cmd = get_command(data);
	int result;

	if (status) {
		finish(dev, data, status);
		return;
	}
	completing++;
	CHECK(completing == 1, "completion recursed");
	cmd.done = verify_read;
	cmd.own_iovec = (struct iovec){cmd.own, cmd.count * BLOCK};
	memcpy(data, &cmd, sizeof(cmd));
	/* the iovec must be aligned for its user, so a copy that lives as long as the command */
	result = handler->read(dev, (struct tcmur_cmd *)data, (struct iovec *)(cmd.own + SPAN), 1,
			       cmd.count * BLOCK, (off_t)(cmd.first * BLOCK));
	completing--;
	if (result != 0)
		finish(dev, data, result);
}

enum kind { K_READ, K_WRITE, K_FLUSH, K_UNMAP, K_SAME, K_CAW, K_VERIFY, K_KINDS };

static const uint8_t opcodes[K_KINDS] = {0x28, 0x2a, 0x35, 0x42, 0x93, 0x89, 0x2e};
static const int cdb_lengths[K_KINDS] = {10, 10, 10, 10, 16, 16, 10};

static int call(struct tcmu_device *dev, enum kind kind, struct tcmulib_cmd *lib)
{
	struct tcmur_cmd *cmd = lib->hm_private;
	struct command c = get_command(cmd);
	uint64_t offset = c.first * BLOCK, length = c.count * BLOCK;
	int result = handler->handle_cmd(dev, cmd);

	if (result != TCMU_STS_NOT_HANDLED)
		return result;
	switch (kind) {
	case K_READ:
		return handler->read(dev, cmd, lib->iovec, lib->iov_cnt, length, (off_t)offset);
	case K_WRITE:
	case K_VERIFY:
		return handler->write(dev, cmd, lib->iovec, lib->iov_cnt, length, (off_t)offset);
	case K_FLUSH:
		return handler->flush(dev, cmd);
	case K_UNMAP:
		return handler->unmap(dev, cmd, offset, length);
	case K_SAME:
		return handler->writesame(dev, cmd, offset, length, lib->iovec, lib->iov_cnt);
	default:
		return handler->caw(dev, cmd, offset, length, lib->iovec, lib->iov_cnt);
	}
}

static void prepare(struct tcmu_device *dev, enum kind kind, struct tcmulib_cmd *lib,
		    struct command *c)
{
	uint8_t data[SPAN];

	write_stamps(data, c->first, c->count, c->stamp);
	fill_iovec(lib, c->buffer, c->count * BLOCK);
	scatter(lib, data);
	c->done = note_write;
	switch (kind) {
	case K_READ:
		memset(c->buffer, 0xcc, ROOM);
		c->done = check_read;
		break;
	case K_FLUSH:
		lib->iov_cnt = 0;
		c->done = finish;
		break;
	case K_UNMAP:
		c->stamp = 0;
		break;
	case K_SAME: /* of zeros: one block of a stamp would be wrong for its neighbours */
		memset(c->buffer, 0, BLOCK);
		lib->iov_cnt = 1;
		lib->iovec[0] = (struct iovec){c->buffer, BLOCK};
		c->stamp = 0;
		break;
	case K_CAW:
		write_stamps(data, c->first, 1, dev->stamps[c->first]);
		write_stamps(data + BLOCK, c->first, 1, c->stamp);
		fill_iovec(lib, c->buffer, 2 * BLOCK);
		scatter(lib, data);
		break;
	case K_VERIFY:
		c->own = aligned_alloc(64, SPAN + 64);
		((struct iovec *)(c->own + SPAN))[0] = (struct iovec){c->own, c->count * BLOCK};
		c->done = verify_write;
		break;
	default:
		break;
	}
}

/* Submits one command of *kind* on blocks that nobody uses; returns the callback's result. */
static int submit(struct tcmu_device *dev, enum kind kind, uint64_t first, uint64_t count, int want)
{
	uint8_t cdb[16] = {opcodes[kind], (uint8_t)(kind == K_SAME ? 8 : 0)};
	int room = 0, parts = 1 + rand_r(&dev->seed) % PARTS, result;
	struct tcmulib_cmd *lib;
	struct command c;

	pthread_mutex_lock(&dev->lock);
	while (room < DEPTH && dev->rooms[room])
		room++;
	dev->rooms[room] = true;
	for (uint64_t b = first; b < first + count; b++)
		dev->busy[b] = true;
	dev->in_flight++;
	dev->submitted++;
	pthread_mutex_unlock(&dev->lock);

	lib = make_command(dev, cdb, cdb_lengths[kind], parts, room);
	c = get_command(lib->hm_private);
	c.first = first;
	c.count = count;
	c.want = want;
	c.stamp = (uint64_t)rand_r(&dev->seed) + 1;
	prepare(dev, kind, lib, &c);
	set_command(lib, &c);
	result = call(dev, kind, lib);
	if (result != 0 && result != TCMU_STS_ASYNC_HANDLED) {
		dev->refused++;
		c.want = ANY;
		set_command(lib, &c);
		finish(dev, lib->hm_private, result);
	}
	return result;
}

static void wait_room(struct tcmu_device *dev, int most)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	pthread_mutex_lock(&dev->lock);
	while (dev->in_flight > most)
		if (pthread_cond_timedwait(&dev->changed, &dev->lock, &limit)) {
			CHECK(false, "%s: %d commands hang", dev->config, dev->in_flight);
			break;
		}
	pthread_mutex_unlock(&dev->lock);
}

static void pick_blocks(struct tcmu_device *dev, enum kind kind, uint64_t *first, uint64_t *count)
{
	bool taken = true;

	*count = kind == K_CAW ? 1 : 1 + (uint64_t)rand_r(&dev->seed) % COMMAND_BLOCKS;
	while (taken) {
		*first = (uint64_t)rand_r(&dev->seed) % (BLOCKS - *count);
		taken = false;
		pthread_mutex_lock(&dev->lock);
		for (uint64_t b = *first; b < *first + *count; b++)
			taken |= dev->busy[b];
		pthread_mutex_unlock(&dev->lock);
	}
	if (kind == K_FLUSH)
		*count = 0;
}

static void submit_random(struct tcmu_device *dev)
{
	enum kind kind = (enum kind)(rand_r(&dev->seed) % K_KINDS);
	uint64_t first, count;

	pick_blocks(dev, kind, &first, &count);
	submit(dev, kind, first, count, TCMU_STS_OK);
}

/* --- devices --------------------------------------------------------------------------- */

static struct tcmu_device *make_device(const char *config)
{
	struct tcmu_device *dev = calloc(1, sizeof(*dev));

	snprintf(dev->config, sizeof(dev->config), "%s", config);
	dev->area = mmap(NULL, (size_t)DEPTH * ROOM, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->changed, NULL);
	dev->seed = (unsigned)(uintptr_t)config ^ 77;
	dev->max_xfer = 128;
	return dev;
}

static struct tcmu_device *open_device(const char *config)
{
	struct tcmu_device *dev = make_device(config);
	int result = handler->open(dev, false);

	CHECK(result == 0, "open of %s gave %d", config, result);
	dev->is_open = result == 0;
	return dev;
}

/* main.c:611: whoever comes first, the cancelled thread or the main one */
static void stop_device(void *arg)
{
	struct tcmu_device *dev = arg;
	bool was_open = dev->is_open;

	dev->is_open = false;
	if (was_open)
		handler->close(dev);
	dev->is_stopped = true;
}

static void free_device(struct tcmu_device *dev)
{
	stop_device(dev);
	munmap(dev->area, (size_t)DEPTH * ROOM); /* a later touch is a crash */
}

/* goal < 0: goes on until cancelled, without a limit on what is in flight but the rooms */
static void *cmdproc(void *arg)
{
	struct tcmu_device *dev = arg;

	pthread_cleanup_push(stop_device, dev);
	while (dev->goal < 0 || dev->submitted < dev->goal) {
		submit_random(dev);
		if (dev->in_flight >= DEPTH - 4) {
			struct timespec nap = {0, 20000};

			ppoll(NULL, 0, &nap, NULL); /* the cancellation point of the original */
		}
		while (dev->in_flight >= DEPTH - 4)
			sched_yield();
	}
	wait_room(dev, 0);
	while (dev->goal >= 0)
		ppoll(NULL, 0, NULL, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

/* --- scenarios ------------------------------------------------------------------------- */

/* every kind on several devices at once, each block compared; then removal as in main.c:1107 */
static void stress(int count)
{
	const char *names[DEVICES] = {"restore/vol0", "restore/late1", "restore/vol2"};
	struct tcmu_device *devs[DEVICES];

	for (int i = 0; i < DEVICES; i++) {
		devs[i] = open_device(names[i]);
		devs[i]->goal = count;
		pthread_create(&devs[i]->cmdproc, NULL, cmdproc, devs[i]);
	}
	for (int i = 0; i < DEVICES; i++) {
		struct tcmu_device *dev = devs[i];

		while (__atomic_load_n(&dev->completed, __ATOMIC_ACQUIRE) < count && !failures)
			usleep(1000);
		pthread_cancel(dev->cmdproc);
		pthread_join(dev->cmdproc, NULL);
		CHECK(dev->is_stopped, "close did not run in the cancelled thread");
		CHECK(dev->completed == count, "%d of %d completed", dev->completed, count);
		CHECK(dev->bad == 0, "%s: %d bad answers", dev->config, dev->bad);
		CHECK(dev->refused == 0, "%d refused", dev->refused);
		printf("%s: %d commands, %d good\n", dev->config, dev->completed, dev->statuses[0]);
		free_device(dev);
	}
}

static int count_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* cancels the thread in the middle of the stream, with commands in flight, many times */
static void cancel(int count)
{
	int descriptors = count_descriptors();

	for (int i = 0; i < count; i++) {
		struct tcmu_device *dev = open_device(i % 2 ? "restore/vol0" : "restore/late0");

		memset(dev->stamps, 0, sizeof(dev->stamps));
		dev->goal = -1;
		dev->seed += (unsigned)i;
		pthread_create(&dev->cmdproc, NULL, cmdproc, dev);
		usleep((useconds_t)(500 + rand_r(&dev->seed) % 3000));
		pthread_cancel(dev->cmdproc);
		pthread_join(dev->cmdproc, NULL);
		CHECK(dev->is_stopped, "close did not run");
		CHECK(dev->submitted == dev->completed, "%d of %d completed", dev->completed,
		      dev->submitted);
		CHECK(dev->in_flight == 0, "%d in flight after close", dev->in_flight);
		free_device(dev);
	}
	CHECK(count_descriptors() == descriptors, "descriptors leak");
	stress(200); /* the engine's thread is as it was */
}

/* one read of a volume whose engine does what its name says, and what the host then gets */
static void answers(int unused)
{
	const struct {
		const char *config;
		int status;
	} cases[] = {
		{"restore/raise-submit", TCMU_STS_HW_ERR}, {"restore/raise-assert", TCMU_STS_HW_ERR},
		{"restore/fail-unreachable", TCMU_STS_BUSY}, {"restore/fail-busy", TCMU_STS_BUSY},
		{"restore/fail-lost", TCMU_STS_RD_ERR},	    {"restore/fail-write", TCMU_STS_WR_ERR},
		{"restore/fail-range", TCMU_STS_RANGE},	    {"restore/fail-fenced", TCMU_STS_HW_ERR},
		{"restore/fail-strange", TCMU_STS_HW_ERR},  {"restore/fail-unknown", TCMU_STS_HW_ERR},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tcmu_device *dev = open_device(cases[i].config);

		submit(dev, K_READ, 8, 8, ANY);
		wait_room(dev, 0);
		CHECK(dev->statuses[cases[i].status] == 1, "%s: wrong status", cases[i].config);
		CHECK(dev->statuses[0] == 0, "%s read as success", cases[i].config);
		free_device(dev);
	}
}

/* a second completion, of the same and of a later turn, must not reach the daemon */
static void twice(int unused)
{
	struct tcmu_device *dev = open_device("restore/twice");

	(void)unused;
	for (int i = 0; i < 500; i++) {
		wait_room(dev, DEPTH - 4);
		submit_random(dev);
	}
	wait_room(dev, 0);
	usleep(50000);
	CHECK(dev->completed == 500, "%d of 500 completed", dev->completed);
	CHECK(dev->bad == 0, "%d bad", dev->bad);
	free_device(dev);
}

/* a second completion that comes when its slot holds another command */
static void stale(int unused)
{
	struct tcmu_device *dev = open_device("restore/stale");

	(void)unused;
	submit(dev, K_WRITE, 0, COMMAND_BLOCKS, TCMU_STS_OK);
	wait_room(dev, 0);
	for (int i = 0; i < 200; i++) {
		submit(dev, K_READ, 0, COMMAND_BLOCKS, TCMU_STS_OK);
		wait_room(dev, 0);
	}
	CHECK(dev->completed == 201 && dev->bad == 0, "%d completed, %d bad", dev->completed, dev->bad);
	free_device(dev);
}

/* close waits for what the engine holds, serves what waits, and refuses what comes */
static void closing(int unused)
{
	struct tcmu_device *dev = open_device("restore/held");
	struct timespec before, after;

	(void)unused;
	for (uint64_t i = 0; i < 20; i++)
		submit(dev, i % 2 ? K_READ : K_WRITE, i * 4, 3, TCMU_STS_OK);
	submit(dev, K_VERIFY, 4000, 8, TCMU_STS_BUSY); /* its read comes when all is closing */
	clock_gettime(CLOCK_MONOTONIC, &before);
	stop_device(dev);
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK(dev->completed == 21, "%d of 21 completed at close", dev->completed);
	CHECK(dev->bad == 0, "%d bad", dev->bad);
	CHECK(submit(dev, K_READ, 0, 1, ANY) == TCMU_STS_BUSY, "a command after close");
	CHECK(dev->private_data == NULL, "still attached");
	printf("close took %ld ms\n", (after.tv_sec - before.tv_sec) * 1000 +
					      (after.tv_nsec - before.tv_nsec) / 1000000);
	free_device(dev);
}

/* an engine that loses commands: close ends all the same, and a late answer goes nowhere */
static void hung(int unused)
{
	struct tcmu_device *dev = open_device("restore/lost-commands");
	struct tcmu_device *other;

	(void)unused;
	for (int i = 0; i < 5; i++)
		submit_random(dev);
	stop_device(dev);
	CHECK(dev->completed == 0, "%d completed", dev->completed);
	other = open_device("restore/lost-commands"); /* completes what the first one lost */
	usleep(200000);
	CHECK(dev->completed == 0, "%d completed after close", dev->completed);
	stop_device(other);
}

static bool accepts(const char *config)
{
	char *reason = NULL;
	bool ok = handler->check_config(config, &reason);

	if (!ok) {
		CHECK(reason && strlen(reason) <= 255, "%s: no reason", config);
		printf("%s: %s\n", config, reason ? reason : "");
		free(reason);
	}
	return ok;
}

static void configuration(int unused)
{
	struct tcmu_device *dev = make_device("restore/unknown");
	struct tcmulib_cfg_info cfg = {.type = TCMULIB_CFG_DEV_SIZE};
	char same[] = "restore/vol0", other[] = "restore/vol1";

	(void)unused;
	CHECK(accepts("restore/vol0"), "a good name");
	CHECK(accepts("restore/vol0;tcmur_cmd_time_out=5;"), "tcmu-runner's option");
	CHECK(!accepts("restore/unknown"), "no definition");
	CHECK(!accepts("restore/../x"), "a path");
	CHECK(!accepts("restore/"), "no name");
	CHECK(!accepts("vol0"), "no subtype");
	CHECK(!accepts("restore/long-reason"), "a reason of 2000 bytes");
	CHECK(!accepts("restore/raise-check"), "an exception read as success");
	CHECK(handler->open(dev, false) < 0, "opened an unknown volume");
	CHECK(dev->private_data == NULL, "attached after a failed open");
	snprintf(dev->config, sizeof(dev->config), "restore/raise-open");
	CHECK(handler->open(dev, false) < 0, "an exception read as success");
	snprintf(dev->config, sizeof(dev->config), "restore/slow-open");
	CHECK(handler->open(dev, false) < 0, "open without end");
	dev = open_device("restore/vol0");
	CHECK(dev->unmap_gran == 8 && dev->unmap_align == 8 && !dev->split, "unmap granularity");
	CHECK(dev->max_xfer == 2048 && dev->xcopy == 2048, "transfer length");
	CHECK(dev->write_cache && dev->solid_state, "caching");
	cfg.data.dev_size = (uint64_t)BLOCKS * BLOCK;
	CHECK(handler->reconfig(dev, &cfg) == 0, "the same size");
	cfg.data.dev_size *= 2;
	CHECK(handler->reconfig(dev, &cfg) == 0, "the size to which it has grown");
	cfg.data.dev_size *= 2;
	CHECK(handler->reconfig(dev, &cfg) == -EOPNOTSUPP, "another size");
	cfg.type = TCMULIB_CFG_DEV_CFGSTR;
	cfg.data.dev_cfgstring = same;
	CHECK(handler->reconfig(dev, &cfg) == 0, "the same config string");
	cfg.data.dev_cfgstring = other;
	CHECK(handler->reconfig(dev, &cfg) == -EOPNOTSUPP, "another config string");
	cfg.type = TCMULIB_CFG_WRITE_CACHE;
	CHECK(handler->reconfig(dev, &cfg) == 0, "the write cache");
	free_device(dev);
}

static int filter(struct tcmu_device *dev, uint8_t opcode, uint8_t flags, uint8_t *flags_after)
{
	uint8_t cdb[16] = {opcode, flags};
	struct tcmulib_cmd *lib = make_command(dev, cdb, 16, 1, -1);
	int result = handler->handle_cmd(dev, lib->hm_private);

	*flags_after = lib->cdb[1];
	free(lib);
	return result;
}

static void filters(int unused)
{
	const uint8_t protectable[] = {0x28, 0xa8, 0x88, 0x2a, 0xaa, 0x8a, 0x2e, 0x8e, 0x41, 0x93, 0x89};
	struct tcmu_device *dev = open_device("restore/vol0");
	uint8_t after;

	(void)unused;
	for (size_t i = 0; i < sizeof(protectable); i++) {
		CHECK(filter(dev, protectable[i], 0x20, &after) == TCMU_STS_INVALID_CDB, "PROTECT");
		CHECK(filter(dev, protectable[i], 0x80, &after) == TCMU_STS_INVALID_CDB, "PROTECT");
		CHECK(filter(dev, protectable[i], 0, &after) == TCMU_STS_NOT_HANDLED, "plain");
	}
	CHECK(filter(dev, 0x08, 0x1f, &after) == TCMU_STS_NOT_HANDLED, "READ(6)");
	CHECK(filter(dev, 0x0a, 0x1f, &after) == TCMU_STS_NOT_HANDLED, "WRITE(6)");
	CHECK(filter(dev, 0x93, 0x08, &after) == TCMU_STS_NOT_HANDLED && after == 0, "UNMAP bit");
	CHECK(filter(dev, 0x41, 0x10, &after) == TCMU_STS_INVALID_CDB, "ANCHOR");
	CHECK(filter(dev, 0x2a, 0x18, &after) == TCMU_STS_NOT_HANDLED && after == 0x18, "DPO, FUA");
	CHECK(filter(dev, 0x42, 0x01, &after) == TCMU_STS_NOT_HANDLED && after == 1, "UNMAP");
	CHECK(filter(dev, 0x12, 0xff, &after) == TCMU_STS_NOT_HANDLED, "INQUIRY");
	free_device(dev);
}

/* the volume answers GOOD with FUA, and a read error without */
static void fua(int unused)
{
	const struct {
		uint8_t opcode, flags;
		bool is_fua;
	} cases[] = {
		{0x2a, 0x08, true}, {0x2a, 0x10, false}, {0xaa, 0x08, true}, {0x8a, 0x18, true},
		{0x28, 0x08, true}, {0x28, 0x00, false}, {0xa8, 0x08, true}, {0x88, 0x08, true},
		{0x89, 0x08, true}, {0x89, 0x00, false}, {0x0a, 0x08, false}, {0x08, 0x08, false},
		{0x2e, 0x00, true}, {0x8e, 0x00, true}, {0x93, 0x08, false}, {0x41, 0x08, false},
		{0x04, 0x08, false}, {0x83, 0x08, false},
	};
	struct tcmu_device *dev = open_device("restore/fua");

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint8_t cdb[16] = {cases[i].opcode, cases[i].flags};
		struct tcmulib_cmd *lib = make_command(dev, cdb, 16, 1, -1);
		struct command c = get_command(lib->hm_private);
		int good = dev->statuses[0];

		lib->iovec[0] = (struct iovec){dev->area, BLOCK};
		c.done = finish;
		c.want = ANY;
		set_command(lib, &c);
		__atomic_add_fetch(&dev->in_flight, 1, __ATOMIC_RELAXED);
		handler->write(dev, lib->hm_private, lib->iovec, 1, BLOCK, 0);
		wait_room(dev, 0);
		CHECK(dev->statuses[0] - good == cases[i].is_fua, "FUA of %02x %02x",
		      cases[i].opcode, cases[i].flags);
	}
	free_device(dev);
}

/* what only single commands show: zero lengths, miscompare, too many pieces, a full queue */
static void singles(int unused)
{
	struct tcmu_device *dev = open_device("restore/vol0");
	uint8_t cdb[16] = {0x28};
	struct tcmulib_cmd *lib;
	struct command c;
	struct iovec *many = calloc(5000, sizeof(*many));

	(void)unused;
	submit(dev, K_READ, 0, 0, TCMU_STS_OK);
	submit(dev, K_WRITE, 0, 0, TCMU_STS_OK);
	wait_room(dev, 0);
	CHECK(dev->statuses[0] == 2, "a transfer length of 0");
	submit(dev, K_WRITE, 5, 1, TCMU_STS_OK);
	wait_room(dev, 0);
	dev->stamps[5] += 1UL << 40; /* so the compare data differs from its byte 5 on */
	submit(dev, K_CAW, 5, 1, TCMU_STS_MISCOMPARE);
	wait_room(dev, 0);
	dev->stamps[5] -= 1UL << 40;
	CHECK(dev->statuses[6] == 1 && dev->has_information, "no INFORMATION");
	CHECK(dev->information == 5, "miscompare at byte %u", dev->information);
	submit(dev, K_READ, 5, 1, TCMU_STS_OK);
	wait_room(dev, 0);
	CHECK(dev->bad == 0, "%d bad", dev->bad);

	lib = make_command(dev, cdb, 10, 1, -1);
	c = get_command(lib->hm_private);
	c.done = finish;
	set_command(lib, &c);
	CHECK(handler->read(dev, lib->hm_private, many, 5000, 0, 0) == TCMU_STS_INVALID_CDB,
	      "5000 pieces");
	free(lib);
	free_device(dev);
}

/* commands in thousands of pieces: more than one batch has room for */
static void pieces(int unused)
{
	enum { COUNT = 4000, COMMANDS = 20 };
	struct tcmu_device *dev = open_device("restore/vol0");
	uint8_t cdb[10] = {0x28};

	(void)unused;
	memset(dev->area, 0xcc, COUNT * BLOCK);
	for (int i = 0; i < COMMANDS; i++) {
		struct tcmulib_cmd *lib = make_command(dev, cdb, 10, COUNT, -1);
		struct command c = get_command(lib->hm_private);

		for (int p = 0; p < COUNT; p++)
			lib->iovec[p] = (struct iovec){dev->area + (COUNT - 1 - p) * BLOCK, BLOCK};
		c.done = finish;
		set_command(lib, &c);
		__atomic_add_fetch(&dev->in_flight, 1, __ATOMIC_RELAXED);
		CHECK(handler->read(dev, lib->hm_private, lib->iovec, COUNT, COUNT * BLOCK, 0) == 0,
		      "refused");
	}
	wait_room(dev, 0);
	for (size_t i = 0; i < COUNT * BLOCK; i++)
		if (dev->area[i]) {
			CHECK(false, "byte %zu was not read", i);
			break;
		}
	CHECK(dev->completed == COMMANDS, "%d completed", dev->completed);
	free_device(dev);
}

static void full(int unused)
{
	struct tcmu_device *dev = open_device("restore/held");
	uint8_t cdb[10] = {0x35};
	int accepted = 0, result = 0;

	(void)unused;
	for (; accepted < 5000; accepted++) {
		struct tcmulib_cmd *lib = make_command(dev, cdb, 10, 0, -1);
		struct command c = get_command(lib->hm_private);

		c.done = finish;
		set_command(lib, &c);
		dev->in_flight++;
		result = handler->flush(dev, lib->hm_private);
		if (result) {
			free(lib);
			dev->in_flight--;
			break;
		}
	}
	CHECK(accepted == 4096 && result == TCMU_STS_NO_RESOURCE, "%d, then %d", accepted, result);
	wait_room(dev, 0); /* more than a batch waited, without a new command to wake anybody */
	stop_device(dev);
	CHECK(dev->completed == 4096, "%d completed", dev->completed);
	free_device(dev);
}

static void bench(int count)
{
	struct tcmu_device *dev = open_device("restore/null");
	struct timespec before, after;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (int i = 0; i < count; i++) {
		uint64_t first = (uint64_t)i * 8 % (BLOCKS - 8);
		uint8_t cdb[10] = {0x28};
		struct tcmulib_cmd *lib = make_command(dev, cdb, 10, 1, -1);
		struct command c = get_command(lib->hm_private);

		lib->iovec[0] = (struct iovec){dev->area + i % DEPTH * ROOM, 8 * BLOCK};
		c.done = finish;
		set_command(lib, &c);
		__atomic_add_fetch(&dev->in_flight, 1, __ATOMIC_RELAXED);
		handler->read(dev, lib->hm_private, lib->iovec, 1, 8 * BLOCK, (off_t)(first * BLOCK));
		if (i % 16 == 15)
			while (__atomic_load_n(&dev->in_flight, __ATOMIC_ACQUIRE) > 128)
				sched_yield();
	}
	wait_room(dev, 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	printf("%d commands in %.2f s: %.2f us each\n", count, seconds, seconds / count * 1e6);
	free_device(dev);
}

static const struct {
	const char *name;
	void (*run)(int count);
} scenarios[] = {
	{"stress", stress},   {"cancel", cancel}, {"answers", answers},
	{"twice", twice},     {"stale", stale}, {"closing", closing}, {"hung", hung},
	{"configuration", configuration}, {"filters", filters}, {"singles", singles},
	{"full", full}, {"fua", fua},	      {"pieces", pieces},	      {"bench", bench},
};

static int load(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	int (*init)(void);

	if (!plugin) {
		printf("FAIL %s\n", dlerror());
		return 1;
	}
	*(void **)&init = dlsym(plugin, "handler_init");
	return init();
}

int main(int argc, char **argv)
{
	int result;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3)
		return 2;
	alarm(120);
	result = load(argv[1]);
	if (!strcmp(argv[2], "init")) {
		printf("handler_init gave %d\n", result);
		return result ? 0 : 1;
	}
	if (result || !handler) {
		printf("FAIL handler_init gave %d\n", result);
		return 1;
	}
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (!strcmp(argv[2], scenarios[i].name))
			scenarios[i].run(argc > 3 ? atoi(argv[3]) : 0);
	handler->destroy();
	is_quiet_log = true;
	printf(failures ? "FAIL %d\n" : "PASS\n", failures);
	return failures ? 1 : 0;
}
