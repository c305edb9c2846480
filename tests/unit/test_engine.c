/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine as a process, spoken to over its socket as the gateway does; and the sandbox it lives in. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/process.h"
#include "daemon/engine/protocol.h"
#include "daemon/engine/sandbox.h"

typedef struct peer {
    pid_t pid;
    int fd;
    hob_reader reader;
    /* The last message of interest, and text collected from TOKENS. */
    hob_message_type wanted, got;
    uint64_t got_id;
    char payload[65536];
    size_t payload_len;
    char text[8192];
    size_t text_len;
    uint32_t tokens;
    uint8_t finish;
} peer;

static const char *model_path(void)
{
    const char *path = getenv("HOB_TEST_MODEL");
    if (!path)
        fail_msg("HOB_TEST_MODEL is not set: run through make test");
    return path;
}

static peer *start(const char *model)
{
    int pair[2];
    char fd[16];
    peer *p = calloc(1, sizeof *p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p->pid = fork();
    if (p->pid == 0) {
        char *argv[] = {"--fd", fd,          "--model", (char *)model, "--threads",
                        "2",    "--context", "512",     "--device",    "cpu"};
        close(pair[0]);
        snprintf(fd, sizeof fd, "%d", pair[1]);
        _exit(hob_engine_main(10, argv));
    }
    close(pair[1]);
    p->fd = pair[0];
    return p;
}

static int stop(peer *p)
{
    int status = -1;
    close(p->fd);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    hob_reader_free(&p->reader);
    free(p);
    return status;
}

static void say(peer *p, hob_message_type type, uint64_t id, const void *payload, size_t len)
{
    hob_bytes out = {0};
    assert_int_equal(hob_message_append(&out, type, id, payload, len), 0);
    for (size_t at = 0; at < out.len;) {
        ssize_t n = write(p->fd, out.data + at, out.len - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    hob_bytes_free(&out);
}

static void say_json(peer *p, hob_message_type type, uint64_t id, const char *json)
{
    say(p, type, id, json, strlen(json));
}

/* hob_message_handler */
static int keep(void *user, const hob_message *m)
{
    peer *p = user;
    if (m->type == HOB_MSG_TOKENS) {
        hob_tokens_message t;
        assert_int_equal(hob_tokens_decode(m, &t, NULL), 0);
        memcpy(p->text + p->text_len, t.text, t.text_len);
        p->text_len += t.text_len;
        p->tokens += t.token_count;
        p->finish = t.finish;
        if (t.finish == 0)
            return 0;
    }
    if (m->type != p->wanted && m->type != HOB_MSG_ERROR)
        return 0;
    p->got = m->type;
    p->got_id = m->id;
    p->payload_len = m->len < sizeof p->payload - 1 ? m->len : sizeof p->payload - 1;
    memcpy(p->payload, m->payload, p->payload_len);
    p->payload[p->payload_len] = 0;
    return 0;
}

/* Reads until a message of this type (TOKENS: that finishes) or an ERROR came. False at the end of the stream. */
static bool await(peer *p, hob_message_type type)
{
    uint8_t buffer[4096];
    hob_diag diag = {""};
    p->wanted = type;
    p->got = 0;
    while (!p->got) {
        ssize_t n = read(p->fd, buffer, sizeof buffer);
        if (n <= 0)
            return false;
        if (hob_reader_feed(&p->reader, buffer, (size_t)n, keep, p, &diag) < 0)
            fail_msg("%s", diag.text);
    }
    return true;
}

static void test_a_request(void **state)
{
    (void)state;
    peer *p = start(model_path());
    assert_true(await(p, HOB_MSG_HELLO));
    assert_int_equal(p->got, HOB_MSG_HELLO);
    json_t *hello = json_loads(p->payload, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(hello, "context")), 512);
    assert_string_equal(json_string_value(json_object_get(hello, "architecture")), "llama");
    json_decref(hello);

    say_json(p, HOB_MSG_PREPARE, 7,
             "{\"messages\": [{\"role\": \"user\", \"content\": \"Say hello.\"}]}");
    assert_true(await(p, HOB_MSG_PREPARED));
    assert_int_equal(p->got, HOB_MSG_PREPARED);
    assert_int_equal(p->got_id, 7);
    assert_in_range(hob_get_u32(p->payload), 10, 60);
    assert_int_equal(p->payload_len, HOB_PREPARED_HEADER + 4 * hob_get_u32(p->payload));

    say_json(p, HOB_MSG_RUN, 7,
             "{\"max_tokens\": 12, \"credit\": 4, \"seed\": \"1\", \"temperature\": 0, "
             "\"ignore_eos\": true}");
    uint8_t credit[4];
    hob_put_u32(credit, 100);
    say(p, HOB_MSG_CREDIT, 7, credit, 4);
    assert_true(await(p, HOB_MSG_TOKENS));
    assert_int_equal(p->got, HOB_MSG_TOKENS);
    assert_int_equal(p->tokens, 12);
    assert_int_equal(p->finish, 2);
    assert_true(p->text_len > 10);
    assert_int_equal(stop(p), 0);
}

static void test_refusals_and_cancel(void **state)
{
    (void)state;
    peer *p = start(model_path());
    assert_true(await(p, HOB_MSG_HELLO));
    say_json(p, HOB_MSG_PREPARE, 1, "[1, 2]");
    assert_true(await(p, HOB_MSG_PREPARED));
    assert_int_equal(p->got, HOB_MSG_ERROR);
    assert_int_equal(p->got_id, 1);
    say_json(p, HOB_MSG_PREPARE, 2, "{\"ids\": [1, 99999999]}");
    assert_true(await(p, HOB_MSG_PREPARED));
    assert_int_equal(p->got, HOB_MSG_ERROR);
    say_json(p, HOB_MSG_PREPARE, 3,
             "{\"prompt\": \"one two three four five six seven eight\", \"max_prompt_tokens\": 4}");
    assert_true(await(p, HOB_MSG_PREPARED));
    assert_int_equal(p->got, HOB_MSG_ERROR);
    assert_non_null(strstr(p->payload, "\"max_tokens\": 4"));
    say_json(p, HOB_MSG_PREPARE, 4, "{\"prompt\": \"Count: 1, 2, 3,\"}");
    assert_true(await(p, HOB_MSG_PREPARED));
    say_json(p, HOB_MSG_RUN, 4,
             "{\"max_tokens\": 4, \"credit\": 4, \"seed\": \"1\", \"temperature\": -3}");
    assert_true(await(p, HOB_MSG_TOKENS));
    assert_int_equal(p->got, HOB_MSG_ERROR);
    assert_non_null(strstr(p->payload, "temperature"));
    say_json(p, HOB_MSG_PREPARE, 5, "{\"prompt\": \"Count: 1, 2, 3,\"}");
    assert_true(await(p, HOB_MSG_PREPARED));
    say_json(p, HOB_MSG_RUN, 5,
             "{\"max_tokens\": 400, \"credit\": 3, \"seed\": \"1\", \"ignore_eos\": true}");
    say(p, HOB_MSG_CANCEL, 5, "", 0);
    assert_true(await(p, HOB_MSG_TOKENS));
    assert_int_equal(p->finish, 3);
    assert_int_equal(stop(p), 0);
}

static void test_prepares_are_bounded(void **state)
{
    static hob_engine e;
    hob_ids ids = {0};
    (void)state;
    assert_int_equal(pthread_mutex_init(&e.prepared_lock, NULL), 0);
    assert_int_equal(hob_prepared_add(&e, 1, HOB_PREPARE_BYTES_MAX + 1),
                     0); /* alone: as long as it likes */
    assert_int_equal(hob_prepared_add(&e, 1, 0), HOB_EINVAL);
    assert_int_equal(hob_prepared_add(&e, 2, 1), HOB_ENOMEM);
    hob_prepared_drop(&e, 1); /* its message still waits */
    assert_int_equal(hob_prepared_add(&e, 2, 1), HOB_ENOMEM);
    assert_false(hob_prepared_finish(&e, 1, &ids));
    for (uint64_t id = 2; id < 2 + HOB_REQUESTS_MAX; id++)
        assert_int_equal(hob_prepared_add(&e, id, 1), 0);
    assert_int_equal(hob_prepared_add(&e, 1, 1), HOB_ENOMEM);
    for (uint64_t id = 2; id < 2 + HOB_REQUESTS_MAX; id++) {
        hob_prepared_drop(&e, id);
        assert_false(hob_prepared_finish(&e, id, &ids));
    }
    assert_int_equal(e.prepare_bytes, 0);
    assert_int_equal(e.prepared_count, 0);
    pthread_mutex_destroy(&e.prepared_lock);
}

/* Two PREPAREs of which the first was cancelled before `text` began. Returns the id of the first answer. For a process of
 * its own: the thread never ends. */
static uint64_t first_answered(void)
{
    static hob_engine e;
    hob_message m = {.type = HOB_MSG_PREPARE, .payload = (const uint8_t *)"[1, 2]", .len = 6};
    pthread_t text;
    uint64_t first = 0;
    if (pthread_mutex_init(&e.prepared_lock, NULL) || pthread_mutex_init(&e.out_lock, NULL) ||
        hob_mailbox_init(&e.for_text) < 0 || (e.wake = eventfd(0, 0)) < 0)
        return 0;
    for (m.id = 1; m.id <= 2; m.id++)
        if (hob_prepared_add(&e, m.id, m.len) < 0 || hob_mailbox_put(&e.for_text, &m) < 0)
            return 0;
    hob_prepared_drop(&e, 1);
    if (pthread_create(&text, NULL, hob_engine_text_thread, &e))
        return 0;
    for (bool some = false; !some; usleep(1000)) {
        pthread_mutex_lock(&e.out_lock);
        if ((some = hob_bytes_left(&e.out) > 0))
            first = hob_get_u64(e.out.data + e.out.start + 8); /* the frame's id */
        pthread_mutex_unlock(&e.out_lock);
    }
    return first;
}

static void test_text_skips_the_cancelled(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)first_answered());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 2);
}

static void test_hostile_bytes_end_it(void **state)
{
    (void)state;
    peer *p = start(model_path());
    assert_true(await(p, HOB_MSG_HELLO));
    assert_int_equal(write(p->fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 27);
    assert_false(await(p, HOB_MSG_PREPARED));
    stop(p);
}

static void test_unloadable_model(void **state)
{
    (void)state;
    peer *p = start("/proc/self/maps");
    assert_true(await(p, HOB_MSG_HELLO));
    assert_int_equal(p->got, HOB_MSG_ERROR);
    assert_int_equal(p->got_id, 0);
    assert_int_equal(WEXITSTATUS(stop(p)), 1);
}

static void *do_nothing(void *unused)
{
    return unused;
}

static bool status_says(const char *line)
{
    char text[8192];
    const int fd = open("/proc/self/status", O_RDONLY);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    return strstr(text, line) != NULL;
}

/* Returns, as exit status, the number of the first thing that the sandbox wrongly allowed or refused. */
static int try_sandbox(void)
{
    char byte;
    char *const argv[] = {"/bin/true", NULL};
    int before = socket(AF_INET, SOCK_STREAM, 0);
    if (before < 0 || hob_sandbox_enter(HOB_SANDBOX_CPU, model_path(), NULL, NULL) < 0)
        return 1;
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        return 2;
    if (listen(before, 1) == 0)
        return 3;
    if (open("/etc/passwd", O_RDONLY) >= 0)
        return 4;
    if (open("/tmp/hob-sandbox-test", O_WRONLY | O_CREAT, 0600) >= 0 ||
        open(model_path(), O_RDWR) >= 0)
        return 5;
    if (execv("/bin/true", argv) == 0 || errno != EPERM)
        return 6;
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
        MAP_FAILED)
        return 7;
    int fd = open(model_path(), O_RDONLY);
    if (fd < 0 || read(fd, &byte, 1) != 1 || byte != 'G')
        return 8;
    pthread_t thread;
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 9;
    if (fork() >= 0 || unshare(CLONE_NEWUSER) == 0 ||
        syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL) >= 0)
        return 10;
    if (kill(getppid(), 0) == 0 || syscall(SYS_tgkill, getppid(), getppid(), 0) == 0 ||
        syscall(SYS_tgkill, getpid(), getpid(), 0) < 0)
        return 11;
    if (!status_says("NoNewPrivs:\t1\n") || !status_says("Seccomp:\t2\n") ||
        ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
        return 12;
    return 0;
}

/* The same of an engine with a driver. `foreign` is a program outside all folders that it may look into. */
static int try_drivers_sandbox(hob_sandbox_for what, const char *foreign)
{
    char *const argv[] = {"true", NULL};
    if (hob_sandbox_enter(what, model_path(), NULL, NULL) < 0)
        return 1;
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        return 2;
    if (open(foreign, O_RDONLY) >= 0 || errno != EACCES ||
        open("/tmp/hob-sandbox-test", O_WRONLY | O_CREAT, 0600) >= 0)
        return 3;
    if (execv(foreign, argv) == 0 || errno != (what == HOB_SANDBOX_COMPILER ? EACCES : EPERM))
        return 4;
    if (unshare(CLONE_NEWUSER) == 0 ||
        syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL) >= 0)
        return 5;
    if (kill(getppid(), 0) == 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
        return 6;
    if (what == HOB_SANDBOX_COMPILER) /* its linker */
        execv("/usr/bin/true", argv);
    return what == HOB_SANDBOX_COMPILER ? 7 : 0;
}

static int status_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_sandbox(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(try_sandbox());
    assert_int_equal(status_of(pid), 0);
}

static void copy_program(const char *from, const char *to)
{
    char buffer[65536];
    const int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0700);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;)
        assert_int_equal(write(out, buffer, (size_t)n), n);
    close(in);
    close(out);
}

static void test_drivers_sandbox(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
        skip();
    char folder[] = "/tmp/hob-test-XXXXXX", foreign[64];
    assert_non_null(mkdtemp(folder));
    snprintf(foreign, sizeof foreign, "%s/true", folder);
    copy_program("/usr/bin/true", foreign);
    const hob_sandbox_for both[] = {HOB_SANDBOX_DRIVER, HOB_SANDBOX_COMPILER};
    int wrong[2];
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(try_drivers_sandbox(both[i], foreign));
        wrong[i] = status_of(pid);
    }
    unlink(foreign);
    rmdir(folder);
    assert_int_equal(wrong[0], 0);
    assert_int_equal(wrong[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sandbox),
        cmocka_unit_test(test_drivers_sandbox),
        cmocka_unit_test(test_unloadable_model),
        cmocka_unit_test(test_prepares_are_bounded),
        cmocka_unit_test(test_text_skips_the_cancelled),
        cmocka_unit_test(test_hostile_bytes_end_it),
        cmocka_unit_test(test_a_request),
        cmocka_unit_test(test_refusals_and_cancel),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
