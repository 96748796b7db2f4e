/* crash_point: preloaded into weftd, it kills the process in the middle of its Nth call of one kind: what no kill(1) from outside can hit so
 * exactly. WEFT_CRASH_AT is KIND:N[:half] with the kinds pwrite (the store's files), sync, write (results of fusing), rename and send (replies
 * and events); with `half` a call that writes does half of its work first. Without the variable it does nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))(uintptr_t)real(#name))

enum kind { NONE, PWRITE, SYNC, WRITE, RENAME, SEND, UNREAD };

static _Atomic int kind = UNREAD;
static _Atomic long left;
static _Atomic int half;

static void *real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);
	if (!p)
		abort();
	return p;
}

static int read_plan(void)
{
	static const char *const names[] = {[PWRITE] = "pwrite:", [SYNC] = "sync:", [WRITE] = "write:", [RENAME] = "rename:", [SEND] = "send:"};
	const char *plan = getenv("WEFT_CRASH_AT");
	int k = NONE;
	for (int i = PWRITE; plan && i <= SEND; i++) {
		size_t n = strlen(names[i]);
		if (strncmp(plan, names[i], n) == 0) {
			char *end;
			atomic_store(&left, strtol(plan + n, &end, 10));
			atomic_store(&half, strcmp(end, ":half") == 0);
			k = i;
		}
	}
	atomic_store(&kind, k);
	return k;
}

/* True when this call is the one. */
static int now(enum kind k)
{
	int wanted = atomic_load(&kind);
	if (wanted == UNREAD)
		wanted = read_plan();
	return wanted == (int)k && atomic_fetch_sub(&left, 1) == 1;
}

static _Noreturn void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	if (now(PWRITE)) {
		if (atomic_load(&half))
			REAL(pwrite)(fd, data, n / 2, at);
		die();
	}
	return REAL(pwrite)(fd, data, n, at);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
	if (now(PWRITE)) {
		if (atomic_load(&half))
			REAL(pwrite64)(fd, data, n / 2, at);
		die();
	}
	return REAL(pwrite64)(fd, data, n, at);
}

EXPORT ssize_t write(int fd, const void *data, size_t n)
{
	/* Not the eight bytes that wake a loop, and not the lines of the log. */
	if (n > 8 && fd > 2 && now(WRITE)) {
		if (atomic_load(&half))
			REAL(write)(fd, data, n / 2);
		die();
	}
	return REAL(write)(fd, data, n);
}

EXPORT int fsync(int fd)
{
	if (now(SYNC))
		die();
	return REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
	if (now(SYNC))
		die();
	return REAL(fdatasync)(fd);
}

EXPORT int renameat2(int from, const char *name, int to, const char *new_name, unsigned flags)
{
	if (now(RENAME))
		die();
	return REAL(renameat2)(from, name, to, new_name, flags);
}

EXPORT int renameat(int from, const char *name, int to, const char *new_name)
{
	if (now(RENAME))
		die();
	return REAL(renameat)(from, name, to, new_name);
}

EXPORT ssize_t send(int fd, const void *data, size_t n, int flags)
{
	if (now(SEND)) {
		if (atomic_load(&half))
			REAL(send)(fd, data, n / 2, flags);
		die();
	}
	return REAL(send)(fd, data, n, flags);
}
