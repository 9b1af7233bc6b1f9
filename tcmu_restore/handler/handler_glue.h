/* What the C files of the handler share, and the functions that Python defines. */
#ifndef HANDLER_GLUE_H
#define HANDLER_GLUE_H

#include <stdbool.h>
#include <stdint.h>

#include "tcmu_runner_abi.h"

#include "glue_interface.h"

enum {
	GLUE_READY = 1,
	GLUE_REASON_SIZE = 256,
	/* of one command: 16 MiB in scattered pages, against the 1 MiB of VPD page B0h */
	GLUE_PARTS_MAX = 4096,
};

/* what a callback was given */
struct glue_command {
	struct tcmur_cmd *cmd;
	struct iovec *iovec;
	size_t iov_count;
	uint64_t offset;
	uint64_t length;
	uint8_t kind; /* engine.command.CommandKind */
	uint8_t fua;
	uint8_t opcode;
};

/* Returns what a callback returns: 0 once it is queued. Any thread; does not block. */
int glue_enqueue(struct tcmu_device *dev, const struct glue_command *command);

/* *cmd* need not be aligned */
struct tcmulib_cmd *glue_lib_cmd(const struct tcmur_cmd *cmd);

/* what tcmu-runner looks up */
int handler_init(void);

/* embed_python.c: on failure it has logged why */
bool glue_start_interpreter(void);

/* entry_points.py. An exception never reads as success: each has an error value. */
int glue_python_ready(void);
int glue_python_init(void);
void glue_python_destroy(void);
int glue_python_check_config(const char *config, char *reason, uint64_t reason_size);
int glue_python_open(struct tcmu_device *dev, int reopen);
void glue_python_close(struct tcmu_device *dev);
int glue_python_resize(struct tcmu_device *dev, uint64_t size);

#endif
