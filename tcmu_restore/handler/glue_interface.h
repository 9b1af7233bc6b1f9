/*
 * What Python sees of the glue. Both the C compiler and cffi read this text, so
 * it holds declarations only: no directives, no inline code.
 *
 * All sizes and offsets are bytes unless a name says blocks. Functions marked
 * [loop] are called by the engine's thread only.
 */

/* a piece of a command's memory */
struct glue_part {
	uint64_t address;
	uint64_t length;
};

/* a command; its *parts* pieces follow those of the record before it */
struct glue_record {
	uint64_t id; /* names the command until it is completed; never used twice */
	uint64_t offset;
	uint64_t length;
	uint32_t parts;
	uint8_t kind; /* engine.command.CommandKind */
	uint8_t fua;
	uint8_t opcode; /* of the SCSI command that it is or belongs to */
	uint8_t reserved;
};

struct glue_completion {
	uint64_t id;
	int32_t status;	      /* handler.scsi_status.Status */
	uint32_t information; /* of MISCOMPARE: the first differing byte */
};

struct glue_device;
struct tcmu_device;

/* open(): returns NULL with errno set. The commands come once it is attached. */
struct glue_device *glue_device_create(struct tcmu_device *dev);
void glue_device_attach(struct glue_device *device);
int glue_device_fd(const struct glue_device *device);
void *glue_device_area(const struct glue_device *device);
uint64_t glue_device_area_size(const struct glue_device *device);

/* [loop] Returns the number of records taken. If more are left, the eventfd stays readable. */
int glue_drain(struct glue_device *device, struct glue_record *records, int records_max,
	       struct glue_part *parts, int parts_max);

/* [loop] Returns how many were refused: unknown, or completed before (CMD-1). */
int glue_complete(struct glue_device *device, const struct glue_completion *completions, int count);

/* From now on callbacks answer BUSY; what is queued stays queued. */
void glue_device_stop(struct glue_device *device);

/* close(): returns the number of commands that were never completed; nothing can be any more. */
int glue_device_close(struct glue_device *device);

/* Once nobody polls it any more. Implies stop. */
void glue_device_close_fd(struct glue_device *device);

/* any thread; *level* is one of syslog's: 3 error, 4 warning, 6 info, 7 debug */
void glue_log(int level, const char *text);

uint64_t glue_blocks(struct tcmu_device *dev);
uint32_t glue_block_size(struct tcmu_device *dev);
const char *glue_config(struct tcmu_device *dev);
struct glue_device *glue_device_of(struct tcmu_device *dev);
/* open(): what INQUIRY and MODE SENSE say; *unmap_blocks* is a power of two */
void glue_describe(struct tcmu_device *dev, uint32_t transfer_blocks, uint32_t unmap_blocks);
