/*
 * One libiscsi context, with completions collected instead of called back.
 *
 * libiscsi reports each finished command through a C callback in the middle of
 * iscsi_service(). Here the callback only notes the result; Python fetches many
 * at once afterwards. So no Python code ever runs inside libiscsi, and nothing
 * is freed that libiscsi may still look at:
 *
 *  - a command's task and scatter list are freed after iscsi_service() has
 *    returned, never in the callback (libiscsi 1.19 touches the PDU afterwards);
 *  - a write that failed stays *parked* until nothing is queued for sending any
 *    more: libiscsi 1.19 may still hold DATA-OUT PDUs that point into it
 *    (fixed upstream in addb11d, 1.20.0);
 *  - after lc_destroy() the context is gone, so no late DATA-IN can reach memory.
 *
 * All functions belong to one thread. None blocks: portals are numeric.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h> /* glibc's struct tcp_info lacks tcpi_bytes_acked */
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define LC_PENDING (-1)

struct lc_op {
    struct lc_op *next;
    struct lc_op **link; /* what points here */
    struct lc_context *owner;
    struct scsi_task *task;
    uint64_t tag;
    int is_write;
    struct scsi_iovec iov[];
};

struct lc_failure {
    uint64_t tag;
    int status;
    int sense_key;
    int asc_ascq;
    uint32_t residual; /* bytes asked for and not moved */
};

struct lc_context {
    struct iscsi_context *iscsi;
    int fd;
    int lun;
    int connect_status; /* LC_PENDING until known */
    int login_status;
    int logout_status;
    int is_lost;
    int tcp_timeout_ms;
    char error[256]; /* why connect or login failed; libiscsi overwrites its own message */
    int live_count;
    int parked_count;
    int good_count;
    int failed_count;
    int room; /* of good and failed: enough for every live command */
    uint64_t *good;
    struct lc_failure *failed;
    struct lc_op *live;     /* libiscsi owns them */
    struct lc_op *finished; /* to be freed when iscsi_service() has returned */
    struct lc_op *parked;   /* to be freed when nothing is queued for sending */
};

static void lc_unlink(struct lc_op *op)
{
    *op->link = op->next;
    if (op->next != NULL)
        op->next->link = op->link;
}

static void lc_push(struct lc_op **list, struct lc_op *op)
{
    op->next = *list;
    op->link = list;
    if (op->next != NULL)
        op->next->link = &op->next;
    *list = op;
}

static void lc_free_all(struct lc_op **list)
{
    while (*list != NULL) {
        struct lc_op *op = *list;
        lc_unlink(op);
        scsi_free_scsi_task(op->task);
        free(op);
    }
}

static void lc_note_error(struct lc_context *c, int status)
{
    if (status != SCSI_STATUS_GOOD)
        strncpy(c->error, iscsi_get_error(c->iscsi), sizeof(c->error) - 1);
}

static void lc_connect_cb(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct lc_context *c = private_data;
    (void)iscsi;
    (void)data;
    c->connect_status = status;
    lc_note_error(c, status);
}

static void lc_login_cb(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct lc_context *c = private_data;
    (void)iscsi;
    (void)data;
    c->login_status = status;
    lc_note_error(c, status);
}

static void lc_logout_cb(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    (void)iscsi;
    (void)data;
    ((struct lc_context *)private_data)->logout_status = status;
}

static void lc_command_cb(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct lc_op *op = private_data;
    struct lc_context *c = op->owner;
    struct scsi_task *task = op->task;
    (void)iscsi;
    (void)data; /* NULL in some error paths; op->task is the same task */

    lc_unlink(op);
    c->live_count--;
    if (status == SCSI_STATUS_GOOD && task->residual_status == SCSI_RESIDUAL_NO_RESIDUAL) {
        lc_push(&c->finished, op);
        c->good[c->good_count++] = op->tag;
        return;
    }
    if (status >= SCSI_STATUS_CANCELLED) /* cancelled, protocol error: the session is no good */
        c->is_lost = 1;
    if (op->is_write && status != SCSI_STATUS_GOOD) {
        lc_push(&c->parked, op);
        c->parked_count++;
    } else {
        lc_push(&c->finished, op);
    }
    struct lc_failure *failure = &c->failed[c->failed_count++];
    failure->tag = op->tag;
    failure->status = status;
    failure->sense_key = status == SCSI_STATUS_CHECK_CONDITION ? (int)task->sense.key : 0;
    failure->asc_ascq = status == SCSI_STATUS_CHECK_CONDITION ? task->sense.ascq : 0;
    failure->residual =
        task->residual_status == SCSI_RESIDUAL_UNDERFLOW ? (uint32_t)task->residual : 0;
}

static struct lc_context *lc_create(const char *initiator, const char *target, int lun,
                                    uint32_t isid, uint32_t isid_qualifier, int header_digest,
                                    int tcp_timeout_ms)
{
    struct lc_context *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->iscsi = iscsi_create_context(initiator);
    if (c->iscsi == NULL) {
        free(c);
        return NULL;
    }
    c->fd = -1;
    c->lun = lun;
    c->connect_status = c->login_status = c->logout_status = LC_PENDING;
    /* LIBISCSI_* in the environment must not matter */
    iscsi_set_log_fn(c->iscsi, NULL);
    iscsi_set_log_level(c->iscsi, 0);
    iscsi_set_cache_allocations(c->iscsi, 1);
    c->tcp_timeout_ms = tcp_timeout_ms;
    iscsi_set_tcp_user_timeout(c->iscsi, tcp_timeout_ms);
    iscsi_set_tcp_syncnt(c->iscsi, 0);
    iscsi_set_timeout(c->iscsi, 0); /* deadlines are ours: dropping a PDU alone is not safe */
    iscsi_set_noautoreconnect(c->iscsi, 1); /* a lost session gets a fresh context */
    iscsi_set_session_type(c->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_targetname(c->iscsi, target);
    iscsi_set_isid_random(c->iscsi, isid, isid_qualifier);
    iscsi_set_header_digest(c->iscsi, header_digest ? ISCSI_HEADER_DIGEST_CRC32C
                                                    : ISCSI_HEADER_DIGEST_NONE);
    /* No unsolicited DATA-OUT beyond the immediate data: a target that fails a command early
       would leave PDUs queued that point into freed memory (libiscsi 1.19). LIO's default too. */
    iscsi_set_initial_r2t(c->iscsi, ISCSI_INITIAL_R2T_YES);
    return c;
}

static int lc_set_chap(struct lc_context *c, const char *user, const char *password,
                       const char *target_user, const char *target_password)
{
    if (iscsi_set_initiator_username_pwd(c->iscsi, user, password) != 0)
        return -1;
    if (target_user == NULL)
        return 0;
    return iscsi_set_target_username_pwd(c->iscsi, target_user, target_password);
}

static void lc_destroy(struct lc_context *c)
{
    if (c == NULL)
        return;
    iscsi_destroy_context(c->iscsi);
    lc_free_all(&c->live); /* 1.19 forgets callbacks of a session that is not logged in */
    lc_free_all(&c->finished);
    lc_free_all(&c->parked);
    free(c->good);
    free(c->failed);
    free(c);
}

static int lc_fail(struct lc_context *c, const char *what, const char *which)
{
    snprintf(c->error, sizeof(c->error), "%s %s: %s", what, which, strerror(errno));
    return -1;
}

static struct addrinfo *lc_numeric(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    return getaddrinfo(host, port, &hints, &found) == 0 ? found : NULL;
}

static int lc_bind(struct lc_context *c, int fd, const char *interface, const char *source)
{
    if (interface != NULL &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, strlen(interface)) != 0)
        return lc_fail(c, "it cannot be reached over the interface", interface);
    if (source == NULL)
        return 0;
    struct addrinfo *from = lc_numeric(source, "0");
    if (from == NULL)
        return lc_fail(c, "this is not an address:", source);
    int result = bind(fd, from->ai_addr, from->ai_addrlen);
    freeaddrinfo(from);
    return result == 0 ? 0 : lc_fail(c, "it cannot be reached from the address", source);
}

/* Connect from one interface or address. libiscsi cannot bind to an address, and does not tell
   when binding to an interface failed: the traffic would take another way unnoticed. So a socket
   of our own takes the place of its descriptor, as libiscsi itself does when it reconnects. The
   first packet of its own socket may already be under way; the kernel resets what answers. */
static int lc_connect_from(struct lc_context *c, const char *host, const char *port,
                           const char *interface, const char *source)
{
    struct addrinfo *peer = lc_numeric(host, port);
    if (peer == NULL)
        return lc_fail(c, "this is not an address:", host);
    int on = 1, result = -1;
    int fd = socket(peer->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        lc_fail(c, "no socket for", host);
    } else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &c->tcp_timeout_ms,
                   sizeof(c->tcp_timeout_ms));
        result = lc_bind(c, fd, interface, source);
        if (result == 0 && connect(fd, peer->ai_addr, peer->ai_addrlen) != 0 &&
            errno != EINPROGRESS)
            result = lc_fail(c, "cannot connect to", host);
        if (result == 0 && dup3(fd, c->fd, O_CLOEXEC) < 0)
            result = lc_fail(c, "cannot connect to", host);
        close(fd);
    }
    freeaddrinfo(peer);
    return result;
}

/* *host* is numeric; *interface* and *source* may be NULL. */
static int lc_connect(struct lc_context *c, const char *portal, const char *host, const char *port,
                      const char *interface, const char *source)
{
    if (interface != NULL) /* not checked by libiscsi, and not by us: see lc_connect_from() */
        iscsi_set_bind_interfaces(c->iscsi, (char *)interface);
    if (iscsi_connect_async(c->iscsi, portal, lc_connect_cb, c) != 0)
        return -1;
    c->fd = iscsi_get_fd(c->iscsi);
    if (c->fd < 0)
        return -1;
    fcntl(c->fd, F_SETFD, FD_CLOEXEC);
    if (interface == NULL && source == NULL)
        return 0;
    return lc_connect_from(c, host, port, interface, source);
}

/* Bytes that the peer's kernel has acknowledged and that came from it; 0 if not connected. */
static uint64_t lc_moved(struct lc_context *c)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    if (c->fd < 0 || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    return info.tcpi_bytes_acked + info.tcpi_bytes_received;
}

static int lc_login(struct lc_context *c)
{
    return iscsi_login_async(c->iscsi, lc_login_cb, c);
}

static int lc_logout(struct lc_context *c)
{
    return iscsi_logout_async(c->iscsi, lc_logout_cb, c);
}

static int lc_nop(struct lc_context *c)
{
    return iscsi_nop_out_async(c->iscsi, NULL, NULL, 0, NULL);
}

/* Make room for the results of one more command, so that a callback never has to allocate. */
static int lc_reserve(struct lc_context *c)
{
    int needed = c->live_count + c->good_count + c->failed_count + 1;
    if (needed <= c->room)
        return 0;
    int room = needed * 2;
    uint64_t *good = realloc(c->good, room * sizeof(*good));
    if (good == NULL)
        return -1;
    c->good = good;
    struct lc_failure *failed = realloc(c->failed, room * sizeof(*failed));
    if (failed == NULL)
        return -1;
    c->failed = failed;
    c->room = room;
    return 0;
}

/* Queue one command. direction: enum scsi_xfer_dir. The bytes stay the caller's until the tag
   is reported, or lc_destroy() has returned, and parked_count is 0. */
static int lc_submit(struct lc_context *c, uint64_t tag, const uint8_t *cdb, int cdb_length,
                     int direction, uint32_t length, const struct lc_part *parts, int part_count)
{
    if (lc_reserve(c) != 0)
        return -1;
    struct lc_op *op = malloc(sizeof(*op) + part_count * sizeof(op->iov[0]));
    if (op == NULL)
        return -1;
    op->task = scsi_create_task(cdb_length, (unsigned char *)cdb, direction, (int)length);
    if (op->task == NULL) {
        free(op);
        return -1;
    }
    for (int i = 0; i < part_count; i++) {
        op->iov[i].iov_base = parts[i].base;
        op->iov[i].iov_len = parts[i].length;
    }
    op->owner = c;
    op->tag = tag;
    op->is_write = direction == SCSI_XFER_WRITE;
    if (direction == SCSI_XFER_READ)
        scsi_task_set_iov_in(op->task, op->iov, part_count);
    else if (direction == SCSI_XFER_WRITE)
        scsi_task_set_iov_out(op->task, op->iov, part_count);
    lc_push(&c->live, op);
    c->live_count++;
    if (iscsi_scsi_command_async(c->iscsi, c->lun, op->task, lc_command_cb, NULL, op) != 0) {
        lc_unlink(op);
        c->live_count--;
        scsi_free_scsi_task(op->task);
        free(op);
        return -1;
    }
    return 0;
}

/* The same with one part, which needs no array in Python. */
static int lc_submit_one(struct lc_context *c, uint64_t tag, const uint8_t *cdb, int cdb_length,
                         int direction, uint32_t length, void *base)
{
    struct lc_part part = {base, length};
    return lc_submit(c, tag, cdb, cdb_length, direction, length, &part, base != NULL);
}

/* Do what poll() found (0: only look at the state). Returns the events to wait for, or -1 when the
   session is lost; results that are reported together with -1 are true as well. */
static int lc_service(struct lc_context *c, int revents)
{
    int result = iscsi_service(c->iscsi, revents);
    lc_free_all(&c->finished);
    if (result != 0 || c->is_lost || iscsi_get_fd(c->iscsi) != c->fd)
        return -1;
    int events = iscsi_which_events(c->iscsi);
    if (c->parked != NULL && !(events & POLLOUT) && iscsi_out_queue_length(c->iscsi) == 0) {
        lc_free_all(&c->parked);
        c->parked_count = 0;
    }
    return events;
}
