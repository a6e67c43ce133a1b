/* SPDX-License-Identifier: Apache-2.0 */
/** Child processes, and the contest of cold starts: `openssl pkeyutl -sign` as a fresh process each time. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

pid_t process_start(const char *const argv[], char *const envp[])
{
    posix_spawn_file_actions_t files;
    pid_t pid = -1;
    int err;

    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    err = posix_spawnp(&pid, argv[0], &files, NULL, (char *const *)argv, envp != NULL ? envp : environ);
    posix_spawn_file_actions_destroy(&files);
    if (err != 0) {
        (void)bench_fail("cannot start %s: %s", argv[0], strerror(err));
        return -1;
    }
    return pid;
}

bool process_finish(pid_t pid)
{
    int status = 0;

    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct cold {
    const char *const *argv;
    char *const *envp;
};

static bool cold_start(void *arg)
{
    const struct cold *cold = arg;

    if (!process_finish(process_start(cold->argv, cold->envp)))
        return bench_fail("openssl pkeyutl -sign failed");
    return true;
}

static bool write_digest(const char *path)
{
    static const unsigned char digest[32] = "32 bytes";
    FILE *out = fopen(path, "wb");
    bool written = out != NULL && fwrite(digest, 1, sizeof(digest), out) == sizeof(digest);

    if (out != NULL && fclose(out) != 0)
        written = false;
    return written || bench_fail("cannot write %s", path);
}

/* The same environment without any OpenSSL configuration. */
static char **unconfigured_environment(char **copy, size_t room)
{
    static char no_conf[] = "OPENSSL_CONF=/dev/null";
    size_t n = 0;

    for (char **entry = environ; *entry != NULL && n + 2 < room; entry++) {
        if (strncmp(*entry, "OPENSSL_", 8) != 0)
            copy[n++] = *entry;
    }
    copy[n++] = no_conf;
    copy[n] = NULL;
    return copy;
}

bool bench_cold(struct bench *bench, bool configured, struct score *score)
{
    struct key_pair_files files;
    char input[256], output[] = "/dev/null", *environment[256];
    const char *argv[SIDE_COUNT][10];
    struct cold cold[SIDE_COUNT];
    struct contest contest = { .run = cold_start, .threads = 1 };

    if (!fixture_key(bench, "ec", &files))
        return false;
    (void)snprintf(input, sizeof(input), "%s/digest", bench->dir);
    if (!write_digest(input))
        return false;
    for (int side = 0; side < SIDE_COUNT; side++) {
        const char *const command[] = { "openssl", "pkeyutl", "-sign", "-inkey", files.path[side],
                                        "-in",     input,     "-out",  output,   NULL };

        memcpy(argv[side], command, sizeof(command));
        cold[side] = (struct cold){ .argv = argv[side], .envp = environ };
        contest.arg[side] = &cold[side];
    }
    if (!configured)
        cold[SIDE_DEFAULT].envp =
            unconfigured_environment(environment, sizeof(environment) / sizeof(environment[0]));
    return contest_run(&contest, bench->seconds, score);
}
