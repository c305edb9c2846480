/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine process: arguments, sandbox, loading, and the `io` thread, which moves bytes between the socket and the
 * other threads' mailboxes and never computes. See engine.h. */
#include "daemon/engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/budget.h"
#include "daemon/engine/process.h"
#include "daemon/engine/sandbox.h"
#include "hal/select.h"
#include "models/digest.h"

enum {
    DEFAULT_CONTEXT = 8192,
    DEFAULT_SEQUENCES = 16,
    DEFAULT_WAITING = 64,
    STEP_ROWS = 512,
    REQUEST_BYTES =
        24 * 1024 * 1024, /* of a memory budget: sequences, prompts being read, kernels' scratch */
    OUT_MAX =
        64 * 1024 * 1024, /* bytes the gateway may leave unread before the engine gives up on it */
};

typedef struct engine_options {
    const char *model, *device, *kv, *sha256;
    uint8_t digest[HOB_DIGEST_BYTES]; /* that the model has to have, if it has_digest */
    bool has_digest;
    uint32_t fd, threads, context, kv_tokens, prefix_tokens, itl_target_ms, max_sequences,
        max_waiting, memory_mb, slot;
} engine_options;

/* ---- towards the gateway ---- */

void hob_engine_wake(hob_engine *e)
{
    pthread_mutex_lock(&e->out_lock);
    bool some = hob_bytes_left(&e->out) > 0;
    pthread_mutex_unlock(&e->out_lock);
    uint64_t one = 1;
    if (some && write(e->wake, &one, sizeof one) < 0 && errno != EAGAIN)
        _exit(1);
}

void hob_engine_send(hob_engine *e, hob_message_type type, uint64_t id, const void *payload,
                     size_t len)
{
    pthread_mutex_lock(&e->out_lock);
    int rc = hob_message_append(&e->out, type, id, payload, len);
    if (rc == 0 && hob_bytes_left(&e->out) > OUT_MAX)
        rc = HOB_ELIMIT;
    pthread_mutex_unlock(&e->out_lock);
    if (rc < 0) {
        fprintf(stderr, "hobd engine: cannot queue a message of %zu bytes: %s\n", len,
                hob_error_name(rc));
        _exit(1);
    }
}

void hob_engine_send_error(hob_engine *e, uint64_t id, int code, const char *message)
{
    json_t *text = json_string(message),
           *o = json_pack("{s:s, s:o}", "code", hob_error_name(code), "message",
                          text ? text : json_string("the message is not valid UTF-8"));
    char *payload = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (payload)
        hob_engine_send(e, HOB_MSG_ERROR, id, payload, strlen(payload));
    free(payload);
    json_decref(o);
}

/* Writes what fits. Returns false when the gateway is gone. */
static bool flush(hob_engine *e)
{
    bool alive = true;
    pthread_mutex_lock(&e->out_lock);
    while (hob_bytes_left(&e->out) > 0) {
        ssize_t n = write(e->fd, e->out.data + e->out.start, hob_bytes_left(&e->out));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            alive = errno == EAGAIN;
            break;
        }
        hob_bytes_consume(&e->out, (size_t)n);
    }
    pthread_mutex_unlock(&e->out_lock);
    return alive;
}

/* ---- from the gateway ---- */

/* hob_message_handler. Thread: io */
static int route(void *user, const hob_message *m)
{
    hob_engine *e = user;
    int rc;
    switch (m->type) {
    case HOB_MSG_PREPARE:
    case HOB_MSG_EMBED:
        if ((m->type == HOB_MSG_EMBED) != (e->embeds != NULL)) {
            hob_engine_send_error(e, m->id, HOB_EUNSUPPORTED,
                                  e->embeds ? "this model makes embeddings: it generates no text"
                                            : "this model generates text: it makes no embeddings");
            return 0;
        }
        rc = hob_prepared_add(e, m->id, m->len);
        if (rc < 0) {
            hob_engine_send_error(e, m->id, rc,
                                  rc == HOB_ENOMEM ? "too many requests are being prepared"
                                                   : "the request id is in use");
            return 0;
        }
        return hob_mailbox_put(&e->for_text, m);
    case HOB_MSG_CANCEL:
    case HOB_MSG_ABORT:
        hob_prepared_drop(e, m->id); /* at once, so that `text` need not work on it */
        return hob_mailbox_put(&e->for_step, m);
    case HOB_MSG_RUN: /* it may be of a better class than what waits for its turn */
        rc = hob_mailbox_put(&e->for_step, m);
        hob_arbiter_nudge(&e->arbiter);
        return rc;
    case HOB_MSG_CREDIT: return hob_mailbox_put(&e->for_step, m);
    default:
        fprintf(stderr, "hobd engine: message type %d is not for an engine\n", m->type);
        return HOB_EFORMAT;
    }
}

/* Thread: io. Returns when the gateway is gone or speaks nonsense. */
static void io_loop(hob_engine *e)
{
    static uint8_t buffer[HOB_FRAME_MAX];
    hob_reader reader = {0};
    hob_diag diag = {""};
    for (;;) {
        pthread_mutex_lock(&e->out_lock);
        bool pending = hob_bytes_left(&e->out) > 0;
        pthread_mutex_unlock(&e->out_lock);
        struct pollfd fds[2] = {{e->fd, (short)(POLLIN | (pending ? POLLOUT : 0)), 0},
                                {e->wake, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        uint64_t count;
        if ((fds[1].revents & POLLIN) && read(e->wake, &count, sizeof count) < 0 && errno != EAGAIN)
            break;
        if (!flush(e))
            break;
        if (!(fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        ssize_t n = read(e->fd, buffer, sizeof buffer);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            break;
        if (hob_reader_feed(&reader, buffer, (size_t)n, route, e, &diag) < 0) {
            fprintf(stderr, "hobd engine: %s\n", diag.text);
            break;
        }
    }
    hob_reader_free(&reader);
}

/* ---- starting ---- */

void hob_engine_fault(const char *where, const hob_ids *ids)
{
    const char *wanted = getenv("HOB_ENGINE_FAULT");
    const size_t len = strlen(where);
    if (!wanted || strncmp(wanted, where, len) != 0 || wanted[len] != ':')
        return;
    const unsigned long id = strtoul(wanted + len + 1, NULL, 10);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->data[i] == id) {
            while (strcmp(where, "hang") == 0)
                (void)poll(NULL, 0, 1000);
            abort();
        }
}

static int parse_options(int argc, char **argv, engine_options *o)
{
    const struct {
        const char *name;
        const char **text;
        uint32_t *number;
    } known[] = {
        {"--fd", NULL, &o->fd},
        {"--model", &o->model, NULL},
        {"--device", &o->device, NULL},
        {"--threads", NULL, &o->threads},
        {"--context", NULL, &o->context},
        {"--kv-tokens", NULL, &o->kv_tokens},
        {"--kv", &o->kv, NULL},
        {"--sha256", &o->sha256, NULL},
        {"--prefix-tokens", NULL, &o->prefix_tokens},
        {"--itl-target-ms", NULL, &o->itl_target_ms},
        {"--memory-mb", NULL, &o->memory_mb},
        {"--max-sequences", NULL, &o->max_sequences},
        {"--max-waiting", NULL, &o->max_waiting},
        {"--slot", NULL, &o->slot},
    };
    for (int i = 0; i + 1 < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(argv[i], known[k].name) != 0)
            k++;
        if (k == sizeof known / sizeof *known) {
            fprintf(stderr, "hobd engine: unknown argument %s\n", argv[i]);
            return HOB_EINVAL;
        }
        if (known[k].text)
            *known[k].text = argv[i + 1];
        else
            *known[k].number = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    }
    if (o->slot > HOB_ARBITER_SLOTS) {
        fprintf(stderr, "hobd engine: --slot %u, at most %d\n", o->slot, HOB_ARBITER_SLOTS);
        return HOB_EINVAL;
    }
    if (argc % 2 || !o->model) {
        fprintf(stderr, "hobd engine: --model is needed, and every argument has a value\n");
        return HOB_EINVAL;
    }
    return 0;
}

/* What is said of itself by an engine that embeds as well; NULL: none. */
typedef struct hello_more {
    uint32_t dimensions;
    const char *pooling;
} hello_more;

static int say_hello(hob_engine *e, uint32_t kv_tokens, uint32_t sequences, uint64_t start_us,
                     const hello_more *more, hob_diag *diag)
{
    const hob_model_info *info = hob_model_get_info(e->model);
    const hob_device *dev = hob_model_device(e->model);
    json_t *hello = json_pack(
        "{s:s,s:s,s:I,s:I,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "model", info->name, "architecture",
        info->architecture, "context", (json_int_t)e->context, "vocab", (json_int_t)info->vocab,
        "device", dev->info.name, "isa", dev->info.isa, "threads", (json_int_t)dev->info.threads,
        "resident_bytes", (json_int_t)hob_resident_bytes(), "weight_bytes",
        (json_int_t)info->weight_bytes, "kv_tokens", (json_int_t)kv_tokens, "max_sequences",
        (json_int_t)sequences, "load_ms", (json_int_t)((hob_now_us() - start_us) / 1000));
    if (hello && more)
        json_object_update_new(hello,
                               json_pack("{s:I,s:s}", "dimensions", (json_int_t)more->dimensions,
                                         "pooling", more->pooling));
    char *text = hello ? json_dumps(hello, JSON_COMPACT) : NULL;
    json_decref(hello);
    if (!text)
        return hob_fail(diag, HOB_EFORMAT, "general.name: not valid UTF-8");
    hob_engine_send(e, HOB_MSG_HELLO, 0, text, strlen(text));
    free(text);
    return 0;
}

static int load_encoder(hob_engine *e, const engine_options *o, uint64_t start_us, hob_diag *diag)
{
    const hob_model_info *info = hob_model_get_info(e->model);
    const hob_device *dev = hob_model_device(e->model);
    const uint32_t rows = STEP_ROWS > info->context_train ? STEP_ROWS : info->context_train,
                   sequences = o->max_sequences ? o->max_sequences : DEFAULT_SEQUENCES;
    const uint64_t limit =
                       strcmp(dev->info.name, "cpu") == 0 ? o->memory_mb * (uint64_t)1048576 : 0,
                   needed = hob_resident_bytes() + rows * info->row_bytes + REQUEST_BYTES;
    int rc;

    if (limit && needed > limit)
        return hob_fail(diag, HOB_ELIMIT,
                        "memory: of %llu MiB the weights and the program, steps and requests take "
                        "%llu",
                        (unsigned long long)(limit >> 20), (unsigned long long)(needed >> 20));
    e->context = o->context ? o->context : info->context_train;
    const hob_embed_queue_options options = {.step_rows = rows,
                                             .on_long_step = hob_engine_long_step,
                                             .user = e,
                                             .long_step_ms = HOB_ENGINE_BEAT_MS};
    if ((rc = hob_embed_queue_new(e->model, &options, &e->embeds, diag)) < 0)
        return rc;
    const hello_more more = {info->width, info->pooling == HOB_POOLING_CLS ? "cls" : "mean"};
    return say_hello(e, 0, sequences, start_us, &more, diag);
}

static int load(hob_engine *e, const engine_options *o, const hob_choice *choice, const char *cache,
                hob_diag *diag)
{
    hob_device *dev;
    const uint64_t start = hob_now_us();
    int rc = hob_hal_open_chosen(
        choice, &(hob_device_options){.threads = o->threads, .cache = cache}, &dev, diag);
    if (rc < 0 || (rc = hob_model_open_checked(o->model, o->has_digest ? o->digest : NULL, dev,
                                               &e->model, diag)) < 0)
        return rc;
    const hob_model_info *info = hob_model_get_info(e->model);
    if (o->context > info->context_train)
        return hob_fail(diag, HOB_EINVAL, "context: %u tokens, the model was trained for %u",
                        o->context, info->context_train);
    if (info->pooling != HOB_POOLING_NONE)
        return load_encoder(e, o, start, diag);
    const uint32_t sequences = o->max_sequences ? o->max_sequences : DEFAULT_SEQUENCES,
                   step_rows = STEP_ROWS > sequences ? STEP_ROWS : sequences;
    const hob_type kv_type = o->kv && strcmp(o->kv, "q8_0") == 0 ? HOB_TYPE_Q8_0 : HOB_TYPE_F16;
    const hob_budget budget = {
        .limit_bytes = strcmp(dev->info.name, "cpu") == 0 ? o->memory_mb * (uint64_t)1048576 : 0,
        .resident_bytes = hob_resident_bytes(),
        .step_bytes = step_rows * info->row_bytes +
                      sequences * (uint64_t)info->vocab * sizeof(float) + REQUEST_BYTES,
        .kv_token_bytes = hob_model_kv_token_bytes(info, kv_type),
        .context = o->context,
        .context_default =
            info->context_train < DEFAULT_CONTEXT ? info->context_train : DEFAULT_CONTEXT,
        .kv_tokens = o->kv_tokens};
    uint32_t kv_tokens;
    if ((rc = hob_budget_fit(&budget, &e->context, &kv_tokens, diag)) < 0)
        return rc;
    const hob_batcher_options options = {.max_sequences = sequences,
                                         .max_waiting =
                                             o->max_waiting ? o->max_waiting : DEFAULT_WAITING,
                                         .step_rows = step_rows,
                                         .context = e->context,
                                         .kv_tokens = kv_tokens,
                                         .kv_type = kv_type,
                                         .prefix_tokens = o->prefix_tokens,
                                         .itl_target_ms = o->itl_target_ms,
                                         .on_long_step = hob_engine_long_step,
                                         .user = e,
                                         .long_step_ms = HOB_ENGINE_BEAT_MS,
                                         .touch_memory = budget.limit_bytes > 0};
    e->kv_bytes = kv_tokens * budget.kv_token_bytes;
    if ((rc = hob_batcher_new(e->model, &options, &e->batcher, diag)) < 0)
        return rc;
    if ((rc = hob_batcher_calibrate(e->batcher)) < 0)
        return hob_fail(diag, rc, "device %s: its first step failed: %s", dev->info.name,
                        dev->failure.text);
    return say_hello(e, options.kv_tokens, sequences, start, NULL, diag);
}

static int start_threads(hob_engine *e)
{
    pthread_t text, step;
    if (pthread_create(&text, NULL,
                       e->embeds ? hob_engine_embed_text_thread : hob_engine_text_thread, e) ||
        pthread_create(&step, NULL, hob_engine_step_thread, e))
        return HOB_ENOMEM;
    pthread_setname_np(text, "text");
    pthread_setname_np(step, "step");
    return 0;
}

/* The one folder that a driver may write, made if it is missing, and named to those drivers that have caches of their own.
 * Empty when there is no place for it. */
static void make_driver_cache(char *path, size_t size)
{
    const char *given = getenv("CACHE_DIRECTORY"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    int n = given  ? snprintf(path, size, "%s", given)
            : xdg  ? snprintf(path, size, "%s/hob", xdg)
            : home ? snprintf(path, size, "%s/.cache/hob", home)
                   : -1;
    if (n < 0 || (size_t)n + sizeof "/opencl" > size) {
        path[0] = 0;
        return;
    }
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            (void)mkdir(path, 0700);
            *p = '/';
        }
    (void)mkdir(path, 0700);
    strcat(path, "/opencl");
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        path[0] = 0;
        return;
    }
    setenv("POCL_CACHE_DIR", path, 1);
    setenv("CUDA_CACHE_PATH", path, 1);
    setenv("TMPDIR", path, 1);
}

/* The configuration's word counts before that of a file beside the model. */
static int find_digest(engine_options *o, hob_diag *diag)
{
    if (!o->sha256) {
        const int rc = hob_digest_beside(o->model, o->digest, diag);
        o->has_digest = rc > 0;
        return rc < 0 ? rc : 0;
    }
    o->has_digest = hob_digest_parse(o->sha256, strlen(o->sha256), o->digest);
    return o->has_digest ? 0
                         : hob_fail(diag, HOB_EINVAL,
                                    "sha256: got \"%.70s\", allowed are 64 "
                                    "hexadecimal digits",
                                    o->sha256);
}

/* A device of its own does not compete for the processor. */
static int join_arbiter(hob_engine *e, uint32_t slot, bool cpu, hob_diag *diag)
{
    int rc = 0;
    if (slot == 0)
        return 0;
    if (cpu && (rc = hob_arbiter_map(HOB_ENGINE_ARBITER_FD, &e->arbiter.page)) < 0)
        return hob_fail(diag, rc, "engine: no arbiter at descriptor %d", HOB_ENGINE_ARBITER_FD);
    e->arbiter.slot = slot - 1;
    close(HOB_ENGINE_ARBITER_FD);
    return 0;
}

int hob_engine_main(int argc, char **argv)
{
    static hob_engine engine;
    hob_engine *e = &engine;
    engine_options o = {.fd = HOB_ENGINE_FD, .device = "auto"};
    hob_diag diag = {""};

    if (parse_options(argc, argv, &o) < 0)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "hobd-engine");
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is the gateway's to handle */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    e->fd = (int)o.fd;
    e->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&e->out_lock, NULL);
    pthread_mutex_init(&e->prepared_lock, NULL);
    if (fcntl(e->fd, F_SETFL, O_NONBLOCK) < 0 || e->wake < 0 ||
        hob_mailbox_init(&e->for_text) < 0 || hob_mailbox_init(&e->for_step) < 0) {
        fprintf(stderr, "hobd engine: cannot use descriptor %d: %s\n", e->fd, strerror(errno));
        return 1;
    }
    hob_set_oom_score(HOB_OOM_ENGINE); /* before there is a driver to inherit it */
    /* From /dev/urandom, which the sandbox does not have: later it would be from the time. */
    json_object_seed(0);
    hob_choice choice = {0};
    char cache[4096] = "";
    if (hob_hal_tries_drivers(o.device)) /* else nothing is written */
        make_driver_cache(cache, sizeof cache);
    const hob_device_options tried = {.cache = cache[0] ? cache : NULL};
    int rc = hob_hal_choose(o.device, &tried, &choice,
                            &diag); /* drivers are tried before the model is read */
    const bool cpu = rc == 0 && strcmp(choice.info.name, "cpu") == 0;
    if (rc == 0)
        rc = join_arbiter(e, o.slot, cpu, &diag);
    if (rc == 0)
        rc = find_digest(&o, &diag); /* while files can be opened */
    if (rc == 0) {
        fprintf(stderr, "hobd engine: device %s (%s): %s\n", choice.info.name,
                choice.info.description, choice.reason);
        rc = hob_sandbox_enter(cpu                     ? HOB_SANDBOX_CPU
                               : choice.info.processor ? HOB_SANDBOX_COMPILER
                                                       : HOB_SANDBOX_DRIVER,
                               o.model, cache[0] ? cache : NULL, &diag);
    }
    if (rc == 0)
        rc = load(e, &o, &choice, cache[0] && !choice.info.processor ? cache : NULL, &diag);
    if (rc == 0 && (rc = start_threads(e)) < 0)
        hob_fail(&diag, rc, "engine: cannot start threads");
    if (rc < 0) {
        fprintf(stderr, "hobd engine: %s\n", diag.text);
        hob_engine_send_error(e, 0, rc, diag.text);
        flush(e);
        /* A device that is not there or fails is left to the CPU; what is wrong with the model is wrong there too. */
        return !choice.info.name[0] || (!cpu && (rc == HOB_EDEVICE || rc == HOB_ENOMEM))
                   ? HOB_ENGINE_EXIT_DEVICE
                   : 1;
    }
    io_loop(e);
    _exit(0); /* the threads have nothing to save, and a step may be running */
}
