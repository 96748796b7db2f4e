#include "config.h"
#include "bell.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

int bell_open(struct bell *b)
{
	if (pipe2(b->fds, O_CLOEXEC | O_NONBLOCK) == 0)
		return 0;
	b->fds[0] = b->fds[1] = -1;
	return -1;
}

void bell_close(struct bell *b)
{
	for (int i = 0; i < 2; i++)
		if (b->fds[i] >= 0)
			close(b->fds[i]);
}

void bell_ring(struct bell *b)
{
	while (write(b->fds[1], "", 1) < 0 && errno == EINTR) /* a full pipe is readable as well */
		;
}

int bell_fd(const struct bell *b)
{
	return b->fds[0];
}

void bell_hear(struct bell *b)
{
	char byte[64];
	ssize_t n;
	do
		n = read(b->fds[0], byte, sizeof byte);
	while (n == (ssize_t)sizeof byte || (n < 0 && errno == EINTR));
}
