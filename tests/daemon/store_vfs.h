/* store_vfs.h: a disk for SQLite, in memory, that behaves as disks do when the power fails, and that fails on request. [any thread]
 *
 * Each file has what is on the platter and the writes since its last sync. vfs_power_off_at() names an operation: at that one the
 * power goes: of the unsynced writes some reach the platter and some do not, in any order, sector by sector of 512 bytes, and some
 * sectors are torn; every later operation fails. vfs_power_on() makes what is on the platter the content of the disk. A file whose
 * name was never synced may be gone. */
#ifndef WEFT_TESTS_STORE_VFS_H
#define WEFT_TESTS_STORE_VFS_H

#include <stdbool.h>
#include <stdint.h>

void vfs_install(void); /* makes it SQLite's default */
void vfs_format(void);  /* an empty disk */
void vfs_seed(uint64_t seed);
uint64_t vfs_ops(void);             /* writes, truncations, syncs and deletions since vfs_format() or vfs_power_on() */
void vfs_power_off_at(uint64_t op); /* 0: never */
bool vfs_is_off(void);
void vfs_power_on(void);
/* A snapshot of the disk, to start many rounds from. */
void vfs_keep(void);
void vfs_restore(void);

enum vfs_fault { VFS_WELL, VFS_FULL, VFS_READ_ONLY, VFS_WRITE_ERROR, VFS_SYNC_ERROR, VFS_READ_ERROR, VFS_FAULTS };
/* Faults of this kind hit one in `every` operations of its sort, from now on. */
void vfs_fault(enum vfs_fault fault, unsigned every);
uint64_t vfs_faults_hit(void);

#endif
