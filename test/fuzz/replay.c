/* SPDX-License-Identifier: Apache-2.0 */
/** Runs a fuzz target over the files of a directory, and over every truncation of them: no libFuzzer needed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEED_MAX = 1 << 16 };

/* A copy of exactly the right size: the sanitizers then see every read beyond the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = calloc(size > 0 ? size : 1, 1);

    if (exact == NULL)
        abort();
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int replay_file(const char *path)
{
    static uint8_t seed[SEED_MAX];
    FILE *in = fopen(path, "rb");
    size_t size, step;

    if (in == NULL) {
        perror(path);
        return 0;
    }
    size = fread(seed, 1, sizeof(seed), in);
    fclose(in);
    step = size > 4096 ? size / 512 : 1; /* whole token files: a sample of the truncations */
    for (size_t cut = 0; cut < size; cut += step)
        run(seed, cut);
    run(seed, size);
    return 1;
}

int main(int argc, char **argv)
{
    char path[4096];
    struct dirent *entry;
    DIR *dir;
    int files = 0;

    run((const uint8_t *)"", 0);
    if (argc != 2 || (dir = opendir(argv[1])) == NULL) {
        fprintf(stderr, "usage: %s DIRECTORY-OF-SEEDS\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name) < (int)sizeof(path))
            files += replay_file(path);
    }
    closedir(dir);
    printf("%d seeds replayed\n", files);
    return files > 0 ? 0 : 1;
}
