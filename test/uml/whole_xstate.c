/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the User-Mode Linux kernel. It keeps 2696 bytes of a process's extended registers, all there
 * was when it was written. Where the processor has more (AMX: 11 KB), the host's ptrace(PTRACE_SETREGSET)
 * takes all or nothing, and the guest would die at its first process. So what is missing is filled in from
 * the process itself.
 */
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_fn(enum __ptrace_request request, pid_t pid, uintptr_t addr, void *data);

static ptrace_fn *next_ptrace;
static unsigned char whole[65536]; /* not on the stack: the kernel calls from its own small ones */

__attribute__((constructor)) static void find_next(void)
{
    void *symbol = dlsym(RTLD_NEXT, "ptrace");

    if (symbol == NULL)
        abort();
    memcpy(&next_ptrace, &symbol, sizeof(symbol));
}

static long set_whole(pid_t pid, const struct iovec *part)
{
    struct iovec all = { whole, sizeof(whole) };
    long ret = next_ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all);

    if (ret != 0)
        return ret;
    memcpy(whole, part->iov_base, part->iov_len < all.iov_len ? part->iov_len : all.iov_len);
    return next_ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

__attribute__((visibility("default"))) long ptrace(enum __ptrace_request request, ...)
{
    va_list args;
    uintptr_t addr;
    void *data;
    pid_t pid;
    long ret;

    va_start(args, request);
    pid = va_arg(args, pid_t);
    addr = va_arg(args, uintptr_t);
    data = va_arg(args, void *);
    va_end(args);
    ret = next_ptrace(request, pid, addr, data);
    if (ret != 0 && request == PTRACE_SETREGSET && addr == NT_X86_XSTATE)
        ret = set_whole(pid, data);
    return ret;
}
