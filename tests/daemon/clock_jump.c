/* clock_jump: preloaded into weftd, it moves the wall clock by the seconds that stand in the first 20 bytes of the file WEFT_CLOCK, from one
 * moment to the next. Other clocks go on as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const char *_Atomic text; /* of the file, as it is now */

static long ahead(void)
{
	const char *t = atomic_load(&text);
	char digits[21] = "";
	if (!t) {
		const char *name = getenv("WEFT_CLOCK");
		int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
		void *p = fd >= 0 ? mmap(NULL, 20, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
		t = p == MAP_FAILED ? "                   0" : p;
		if (fd >= 0)
			close(fd);
		atomic_store(&text, t);
	}
	memcpy(digits, t, 20);
	return strtol(digits, NULL, 10);
}

static int real_clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*_Atomic real)(clockid_t id, struct timespec *t);
	int (*f)(clockid_t id, struct timespec *t) = atomic_load(&real);
	if (!f) {
		f = (__typeof__(f))(uintptr_t)dlsym(RTLD_NEXT, "clock_gettime");
		atomic_store(&real, f);
	}
	return f(id, t);
}

EXPORT int clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = real_clock_gettime(id, t);
	if (rc == 0 && id == CLOCK_REALTIME)
		t->tv_sec += ahead();
	return rc;
}

EXPORT int gettimeofday(struct timeval *restrict v, void *restrict zone)
{
	struct timespec t;
	int rc = clock_gettime(CLOCK_REALTIME, &t);
	*v = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
	return rc;
}

EXPORT time_t time(time_t *at)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (at)
		*at = t.tv_sec;
	return t.tv_sec;
}
