/* nccl.cc: as much of NCCL as the CUDA core uses, for ranks that are threads of one process, each with streams of its own on the shim's device.
 * A gather waits on its stream until every rank's stream has come to it. Sums are nobody's business here. */
#include "internal.h"

#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <pthread.h>

namespace
{

enum { ID = 128 };
struct nccl_id {
	char bytes[ID];
};

struct group {
	pthread_barrier_t all;
	uint32_t ranks, left; /* left: ranks that have not gone yet */
	std::vector<const void *> from;
	std::vector<size_t> bytes;
};

struct comm {
	group *g;
	uint32_t rank;
};

std::map<std::string, group *> groups;
uint64_t ids;

/* Other ranks run meanwhile. */
void wait_for_all(group *g)
{
	shim_lock.unlock();
	pthread_barrier_wait(&g->all);
	shim_lock.lock();
}

void gather(const comm *c, const void *from, void *to, size_t bytes)
{
	group *g = c->g;

	g->from[c->rank] = from;
	g->bytes[c->rank] = bytes;
	wait_for_all(g);
	for (uint32_t i = 0; i < g->ranks; i++)
		if (g->bytes[i] == bytes)
			memcpy((char *)to + i * bytes, g->from[i], bytes);
		else
			shim_set_fault("ncclAllGather", "ranks come with different numbers of elements");
	wait_for_all(g); /* before anybody's part changes */
}

} // namespace

#pragma GCC visibility push(default)
extern "C" {
int ncclGetUniqueId(struct nccl_id *id);
int ncclCommInitRank(void **out, int ranks, struct nccl_id id, int rank);
int ncclAllGather(const void *from, void *to, size_t count, int type, void *c, cudaStream_t s);
int ncclCommDestroy(void *c);
const char *ncclGetErrorString(int rc);
}
#pragma GCC visibility pop

enum { SUCCESS = 0, INVALID_ARGUMENT = 4, FLOAT32 = 7 };

int ncclGetUniqueId(struct nccl_id *id)
{
	shim_hold hold(shim_lock);

	memset(id, 0, sizeof(*id));
	ids++;
	memcpy(id->bytes, &ids, sizeof(ids));
	return SUCCESS;
}

int ncclCommInitRank(void **out, int ranks, struct nccl_id id, int rank)
{
	shim_hold hold(shim_lock);
	group *&slot = groups[std::string(id.bytes, ID)], *g = slot;

	if (rank < 0 || rank >= ranks || (g && g->ranks != (uint32_t)ranks))
		return INVALID_ARGUMENT;
	if (!g) {
		g = slot = new group();
		g->ranks = g->left = (uint32_t)ranks;
		g->from.resize(g->ranks);
		g->bytes.resize(g->ranks);
		pthread_barrier_init(&g->all, NULL, g->ranks);
	}
	*out = new comm{g, (uint32_t)rank};
	wait_for_all(g);
	return SUCCESS;
}

int ncclAllGather(const void *from, void *to, size_t count, int type, void *c, cudaStream_t s)
{
	shim_hold hold(shim_lock);

	if (type != FLOAT32)
		return INVALID_ARGUMENT;
	return shim_put(s, [=] { gather((const comm *)c, from, to, count * 4); }) == cudaSuccess ? SUCCESS : INVALID_ARGUMENT;
}

int ncclCommDestroy(void *c)
{
	shim_hold hold(shim_lock);
	group *g = ((comm *)c)->g;

	delete (comm *)c;
	if (--g->left)
		return SUCCESS;
	for (auto i = groups.begin(); i != groups.end(); i = i->second == g ? groups.erase(i) : std::next(i))
		;
	pthread_barrier_destroy(&g->all);
	delete g;
	return SUCCESS;
}

const char *ncclGetErrorString(int rc)
{
	return rc == SUCCESS ? "no error" : "invalid argument";
}
