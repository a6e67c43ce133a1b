/* SPDX-License-Identifier: Apache-2.0 */
/** Full TLS 1.3 handshakes per second of nginx, as the distribution ships it: PEM key file against key
 * reference. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "bench.h"

enum { IO_TIMEOUT_S = 10, START_TIMEOUT_MS = 10000 };

struct server {
    pid_t pid;
    struct sockaddr_in addr;
    SSL_CTX *client; /* shared by all client threads */
};

static int connect_to(const struct sockaddr_in *addr)
{
    struct linger reset = { .l_onoff = 1 }; /* no pile of TIME_WAIT connections */
    struct timeval timeout = { .tv_sec = IO_TIMEOUT_S };
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool shake_hands(void *arg)
{
    const struct server *server = arg;
    int fd = connect_to(&server->addr);
    SSL *ssl = fd >= 0 ? SSL_new(server->client) : NULL;
    bool done = ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1;

    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
    return done || bench_fail_crypto("TLS handshake with nginx failed");
}

/* A library context of its own, with the default provider only: the client must cost the same against both.
 */
static SSL_CTX *new_client(OSSL_LIB_CTX *libctx)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, NULL, TLS_client_method());

    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set1_groups_list(ctx, "X25519");
    return ctx;
}

static bool pick_port(struct sockaddr_in *addr)
{
    socklen_t len = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool picked;

    *addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    picked = fd >= 0 && bind(fd, (struct sockaddr *)addr, sizeof(*addr)) == 0 &&
             getsockname(fd, (struct sockaddr *)addr, &len) == 0;
    if (fd >= 0)
        close(fd);
    return picked || bench_fail("no free port: %s", strerror(errno));
}

static bool write_nginx_conf(const struct bench *bench, const char *path, const char *key, unsigned port)
{
    FILE *out = fopen(path, "w");
    bool written;

    if (out == NULL)
        return bench_fail("%s: %s", path, strerror(errno));
    fprintf(out,
            "%sdaemon off;\nworker_processes 2;\npid %s.pid;\nerror_log %s.log crit;\nevents { }\n"
            "http {\n  access_log off;\n  client_body_temp_path %s/t1;\n  proxy_temp_path %s/t2;\n"
            "  fastcgi_temp_path %s/t3;\n  uwsgi_temp_path %s/t4;\n  scgi_temp_path %s/t5;\n"
            "  ssl_session_cache off;\n  ssl_session_tickets off;\n  ssl_protocols TLSv1.3;\n"
            "  server {\n    listen 127.0.0.1:%u ssl;\n    ssl_certificate %s/server.crt;\n"
            "    ssl_certificate_key %s;\n  }\n}\n",
            geteuid() == 0 ? "user root;\n" : "", path, path, bench->dir, bench->dir, bench->dir, bench->dir,
            bench->dir, port, bench->dir, key);
    written = ferror(out) == 0;
    return (fclose(out) == 0 && written) || bench_fail("%s: write failed", path);
}

static bool wait_until_served(const struct sockaddr_in *addr)
{
    struct timespec poll = { .tv_nsec = 20 * 1000 * 1000 };
    int fd;

    for (int waited_ms = 0; waited_ms < START_TIMEOUT_MS; waited_ms += 20) {
        if ((fd = connect_to(addr)) >= 0) {
            close(fd);
            return true;
        }
        nanosleep(&poll, NULL);
    }
    return bench_fail("nginx does not answer");
}

static bool start_nginx(const struct bench *bench, const char *key, int side, struct server *server)
{
    char conf[256];
    const char *const argv[] = { access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx", "-c",
                                 conf, NULL };

    (void)snprintf(conf, sizeof(conf), "%s/nginx-%d.conf", bench->dir, side);
    if (!pick_port(&server->addr) || !write_nginx_conf(bench, conf, key, ntohs(server->addr.sin_port)))
        return false;
    server->pid = process_start(argv, NULL);
    return server->pid > 0 && wait_until_served(&server->addr);
}

static bool make_certificate(const struct bench *bench, const char *key)
{
    char path[256];
    const char *const argv[] = { "openssl",       "req",   "-x509", "-key", key,  "-subj",
                                 "/CN=localhost", "-days", "2",     "-out", path, NULL };

    (void)snprintf(path, sizeof(path), "%s/server.crt", bench->dir);
    return process_finish(process_start(argv, NULL)) || bench_fail("openssl req failed");
}

static void stop_server(struct server *server)
{
    if (server->pid > 0 && kill(server->pid, SIGTERM) == 0)
        (void)process_finish(server->pid);
}

bool bench_handshake(struct bench *bench, unsigned clients, struct score *score)
{
    struct key_pair_files files;
    struct server server[SIDE_COUNT] = { 0 };
    struct contest contest = { .run = shake_hands, .threads = clients };
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    SSL_CTX *client = libctx != NULL ? new_client(libctx) : NULL;
    bool done = false;

    if (client == NULL) {
        (void)bench_fail_crypto("TLS client");
        goto out;
    }
    if (!fixture_key(bench, "ec", &files) || !make_certificate(bench, files.path[SIDE_DEFAULT]))
        goto out;
    for (int side = 0; side < SIDE_COUNT; side++) {
        server[side].client = client;
        contest.arg[side] = &server[side];
        if (!start_nginx(bench, files.path[side], side, &server[side]))
            goto out;
    }
    done = contest_run(&contest, bench->seconds, score);
out:
    for (int side = 0; side < SIDE_COUNT; side++)
        stop_server(&server[side]);
    SSL_CTX_free(client);
    OSSL_LIB_CTX_free(libctx);
    return done;
}
