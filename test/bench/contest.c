/* SPDX-License-Identifier: Apache-2.0 */
/** Both sides in turns: A B, B A, A B ... in slices so short that whatever else slows the machine hits both
 * alike. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

#define SLICE_S 0.15
enum { THREADS_MAX = 64, PAIRS_MIN = 5 };

/* Threads live through the whole contest: what libcrypto sets up per thread is paid for once, before the
 * first slice. */
struct pool {
    const struct contest *contest;
    pthread_barrier_t begin, end;
    enum side side;
    double slice_s; /* 0: leave */
    atomic_bool failed;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    double ops_per_s; /* in the last slice */
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double run_slice(struct pool *pool)
{
    const struct contest *contest = pool->contest;
    double start = now_s(), now = start;
    unsigned long ops = 0;

    do {
        if (!contest->run(contest->arg[pool->side])) {
            atomic_store(&pool->failed, true);
            return 0;
        }
        ops++;
        now = now_s();
    } while (now - start < pool->slice_s);
    return (double)ops / (now - start);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct pool *pool = worker->pool;

    for (;;) {
        pthread_barrier_wait(&pool->begin);
        if (pool->slice_s <= 0)
            return NULL;
        worker->ops_per_s = run_slice(pool);
        pthread_barrier_wait(&pool->end);
    }
}

static double play(struct pool *pool, const struct worker *workers, enum side side)
{
    double sum = 0;

    pool->side = side;
    pthread_barrier_wait(&pool->begin);
    pthread_barrier_wait(&pool->end);
    for (unsigned i = 0; i < pool->contest->threads; i++)
        sum += workers[i].ops_per_s;
    return sum;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static bool play_pairs(struct pool *pool, const struct worker *workers, size_t pairs, double *memory,
                       struct score *score)
{
    double *ops[SIDE_COUNT] = { memory, memory + pairs }, *ratio = memory + 2 * pairs;

    for (int side = 0; side < SIDE_COUNT; side++)
        (void)play(pool, workers, (enum side)side); /* warm up: first use, caches, clock speed */
    for (size_t i = 0; i < pairs && !atomic_load(&pool->failed); i++) {
        enum side first = i % 2 == 0 ? SIDE_DEFAULT : SIDE_HSM;
        enum side second = first == SIDE_DEFAULT ? SIDE_HSM : SIDE_DEFAULT;

        ops[first][i] = play(pool, workers, first);
        ops[second][i] = play(pool, workers, second);
        ratio[i] = ops[SIDE_HSM][i] / ops[SIDE_DEFAULT][i];
    }
    if (atomic_load(&pool->failed))
        return false;
    for (int side = 0; side < SIDE_COUNT; side++)
        score->ops_per_s[side] = median(ops[side], pairs);
    score->ratio = median(ratio, pairs);
    return true;
}

static size_t pairs_for(double seconds)
{
    double pairs = floor(seconds / SLICE_S);

    return pairs < PAIRS_MIN ? PAIRS_MIN : (size_t)pairs;
}

bool contest_run(const struct contest *contest, double seconds, struct score *score)
{
    struct worker workers[THREADS_MAX] = { 0 };
    struct pool pool = { .contest = contest, .slice_s = SLICE_S };
    size_t pairs = pairs_for(seconds);
    double *memory = NULL;
    bool done = false;

    if (contest->threads < 1 || contest->threads > THREADS_MAX)
        return bench_fail("threads: 1 to %d", THREADS_MAX);
    if ((memory = calloc(3 * pairs, sizeof(*memory))) == NULL)
        return bench_fail("out of memory");
    pthread_barrier_init(&pool.begin, NULL, contest->threads + 1);
    pthread_barrier_init(&pool.end, NULL, contest->threads + 1);
    for (unsigned i = 0; i < contest->threads; i++) {
        workers[i].pool = &pool;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort(); /* the barriers wait for all of them */
    }
    done = play_pairs(&pool, workers, pairs, memory, score);
    pool.slice_s = 0;
    pthread_barrier_wait(&pool.begin);
    for (unsigned i = 0; i < contest->threads; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&pool.begin);
    pthread_barrier_destroy(&pool.end);
    free(memory);
    return done;
}
