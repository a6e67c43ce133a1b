/* SPDX-License-Identifier: Apache-2.0 */
/* What takes long says so on a terminal, with the seconds it has taken; elsewhere nothing is printed. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool running, end;
    const char *what;
} progress = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *show(void *arg)
{
    struct timespec next;
    unsigned seconds = 0;

    (void)arg;
    (void)clock_gettime(CLOCK_MONOTONIC, &next);
    (void)pthread_mutex_lock(&progress.lock);
    while (!progress.end) {
        fprintf(stderr, "\r%s, this takes a while ... %u s\033[K", progress.what, seconds++);
        next.tv_sec++;
        while (!progress.end && pthread_cond_timedwait(&progress.ended, &progress.lock, &next) == 0)
            ;
    }
    (void)pthread_mutex_unlock(&progress.lock);
    fputs("\r\033[K", stderr);
    return NULL;
}

void progress_begin(const char *what)
{
    pthread_condattr_t attr;
    sigset_t all, before;

    if (!isatty(STDERR_FILENO))
        return;
    progress.what = what;
    progress.end = false;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&progress.ended, &attr);
    (void)pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the main thread's */
    progress.running = pthread_create(&progress.thread, NULL, show, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void progress_end(void)
{
    if (!progress.running)
        return;
    (void)pthread_mutex_lock(&progress.lock);
    progress.end = true;
    (void)pthread_cond_signal(&progress.ended);
    (void)pthread_mutex_unlock(&progress.lock);
    (void)pthread_join(progress.thread, NULL);
    (void)pthread_cond_destroy(&progress.ended);
    progress.running = false;
}
