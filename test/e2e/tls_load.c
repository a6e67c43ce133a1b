/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls-load PORT CA.pem SERVERNAME CLIENTS: HTTPS requests against 127.0.0.1, each on a new connection with a
 * full handshake and a verified chain, until SIGTERM. Prints "running" after the first success, and at the
 * end ok=N refused=N lost=N wrong=N refused: no connection; lost: it broke in between; wrong: a TLS alert, a
 * bad certificate, a bad answer.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { CLIENTS_MAX = 64, IO_TIMEOUT_S = 10 };
enum outcome { OUTCOME_OK, OUTCOME_REFUSED, OUTCOME_LOST, OUTCOME_WRONG, OUTCOME_COUNT };

struct load {
    SSL_CTX *ctx;
    const char *name;
    struct sockaddr_in addr;
    atomic_ulong count[OUTCOME_COUNT];
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    stopped = 1;
}

static int open_connection(const struct sockaddr_in *addr)
{
    struct timeval timeout = { .tv_sec = IO_TIMEOUT_S };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Did the other side vanish (a killed process), or did it say something wrong? */
static enum outcome why(SSL *ssl, int result)
{
    int error = SSL_get_error(ssl, result);
    unsigned long reason = ERR_peek_error();

    if (error == SSL_ERROR_SYSCALL && (errno == ECONNRESET || errno == EPIPE || errno == 0))
        return OUTCOME_LOST;
    if (error == SSL_ERROR_SSL && ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return OUTCOME_LOST;
    fprintf(stderr, "tls-load: error %d, errno %d\n", error, errno);
    ERR_print_errors_fp(stderr);
    return OUTCOME_WRONG;
}

static enum outcome exchange(SSL *ssl, const char *name)
{
    static const char expected[] = "HTTP/1.1 200 ";
    char text[1024];
    int len, got;

    errno = 0;
    if ((got = SSL_connect(ssl)) != 1)
        return why(ssl, got);
    len = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name);
    if ((got = SSL_write(ssl, text, len)) != len)
        return why(ssl, got);
    if ((got = SSL_read(ssl, text, sizeof(text))) <= 0)
        return why(ssl, got);
    if ((size_t)got < sizeof(expected) || memcmp(text, expected, sizeof(expected) - 1) != 0)
        return OUTCOME_WRONG;
    return OUTCOME_OK;
}

static enum outcome request(const struct load *load)
{
    int fd = open_connection(&load->addr);
    SSL *ssl = fd >= 0 ? SSL_new(load->ctx) : NULL;
    enum outcome outcome = OUTCOME_REFUSED;

    ERR_clear_error();
    if (ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_set1_host(ssl, load->name) == 1 &&
        SSL_set_tlsext_host_name(ssl, load->name) == 1)
        outcome = exchange(ssl, load->name);
    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
    return outcome;
}

static void *client(void *arg)
{
    struct load *load = arg;

    while (!stopped) {
        enum outcome outcome = request(load);

        if (atomic_fetch_add(&load->count[outcome], 1) == 0 && outcome == OUTCOME_OK) {
            puts("running");
            fflush(stdout);
        }
    }
    return NULL;
}

static SSL_CTX *new_context(const char *ca)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (ctx == NULL || SSL_CTX_load_verify_file(ctx, ca) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

int main(int argc, char **argv)
{
    struct sigaction on_term = { .sa_handler = stop, .sa_flags = SA_RESTART };
    struct load load = { .addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
    pthread_t threads[CLIENTS_MAX];
    int clients;

    if (argc != 5 || (clients = atoi(argv[4])) < 1 || clients > CLIENTS_MAX) {
        fprintf(stderr, "usage: tls-load PORT CA.pem SERVERNAME CLIENTS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &on_term, NULL);
    load.addr.sin_port = htons((uint16_t)atoi(argv[1]));
    load.ctx = new_context(argv[2]);
    load.name = argv[3];
    for (int i = 0; i < clients; i++) {
        if (pthread_create(&threads[i], NULL, client, &load) != 0)
            return 1;
    }
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);
    printf("ok=%lu refused=%lu lost=%lu wrong=%lu\n", load.count[OUTCOME_OK], load.count[OUTCOME_REFUSED],
           load.count[OUTCOME_LOST], load.count[OUTCOME_WRONG]);
    SSL_CTX_free(load.ctx);
    return 0;
}
