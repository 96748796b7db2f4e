/* files.c: accept(2) and accept4(2) as libzmq and libuv find them: an executable's symbols come before those of the libraries. */
#define _GNU_SOURCE
#include "files.h"
#include "log.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { QUIET_SECONDS = 60 }; /* between two lines of the log about it */

int files_init(char *why, size_t size)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r))
		return 0;
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
		getrlimit(RLIMIT_NOFILE, &r);
	}
	if (r.rlim_cur >= FILES_LEAST)
		return 0;
	snprintf(why, size, "only %llu files may be open (RLIMIT_NOFILE): at least %d are needed", (unsigned long long)r.rlim_cur, FILES_LEAST);
	return -1;
}

/* [any thread] */
static void tell(void)
{
	static atomic_llong quiet_until;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	long long until = atomic_load(&quiet_until);
	if (t.tv_sec >= until && atomic_compare_exchange_strong(&quiet_until, &until, (long long)t.tv_sec + QUIET_SECONDS))
		log_line(LOG_AT_WARNING, 0, "too many files are open (RLIMIT_NOFILE): new clients are turned away until others go");
}

/* The kernel gives the lowest number that is free, so a high one means that few are left. */
static int judge(int fd)
{
	struct rlimit r;
	if (fd < 0 && errno != EMFILE && errno != ENFILE)
		return fd;
	if (fd < 0) { /* the connection stays in the line; of these two libzmq bears only one everywhere */
		tell();
		errno = ENFILE;
		return -1;
	}
	if (getrlimit(RLIMIT_NOFILE, &r) || (rlim_t)fd + FILES_KEPT < r.rlim_cur)
		return fd;
	tell();
	close(fd);
	errno = ECONNABORTED;
	return -1;
}

__attribute__((visibility("default"))) int accept(int fd, struct sockaddr *restrict name, socklen_t *restrict len)
{
	static int (*_Atomic real)(int, struct sockaddr *restrict, socklen_t *restrict);
	int (*f)(int, struct sockaddr *restrict, socklen_t *restrict) = atomic_load(&real);
	if (!f) {
		f = (__typeof__(f))(uintptr_t)dlsym(RTLD_NEXT, "accept");
		atomic_store(&real, f);
	}
	return judge(f(fd, name, len));
}

__attribute__((visibility("default"))) int accept4(int fd, struct sockaddr *restrict name, socklen_t *restrict len, int flags)
{
	static int (*_Atomic real)(int, struct sockaddr *restrict, socklen_t *restrict, int);
	int (*f)(int, struct sockaddr *restrict, socklen_t *restrict, int) = atomic_load(&real);
	if (!f) {
		f = (__typeof__(f))(uintptr_t)dlsym(RTLD_NEXT, "accept4");
		atomic_store(&real, f);
	}
	return judge(f(fd, name, len, flags));
}
