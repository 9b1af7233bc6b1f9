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
	GLUE_PARTS_MAX = 4096,
};

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
