/* Large blocks of memory that are kept and used again, in huge pages; the rest is glibc's.
 *
 * Preloaded (LD_PRELOAD), it stands in front of malloc. XLA allocates the temporary memory of a program at every call,
 * up to some gigabytes, and the packing buffers of every matrix product. glibc maps and unmaps them (a page fault every
 * 4 KB), or, told to keep them, tears them up between small blocks and searches long lists under one lock.
 *
 * Blocks of LARGE bytes and more come from reserved ranges of addresses, in units of UNIT bytes: the smallest gap that
 * fits, neighbouring gaps joined when freed. Those of GIANT bytes have a range of their own, so that no smaller block
 * ever settles in the gap that the temporary memory of the next step will need. Nothing is given back before the
 * process ends. A range that cannot be reserved, a full table or a strange alignment leaves the request to glibc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT ((size_t)1 << 16)
#define LARGE ((size_t)1 << 20)
#define GIANT ((size_t)1 << 26)
#define HUGE_PAGE ((size_t)1 << 21)
#define EXTENTS 16384

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

typedef struct {
  uint32_t first, count; /* in units */
  bool used;
} Extent;

typedef struct {
  char *base;
  size_t known;              /* extents */
  uint32_t fresh;            /* units from here on have never been handed out: they are zero */
  Extent extents[EXTENTS];   /* all of the range, in order of address */
} Range;

static Range ranges[2];    /* of large blocks, of giant ones */
static size_t size;        /* of each range; 0 until they are reserved */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void give_lock(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void reserve(void) {
  size_t each = 2 * (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) & -HUGE_PAGE;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *all = mmap(NULL, 2 * each + HUGE_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (all == MAP_FAILED) return;
  all = (char *)(((uintptr_t)all + HUGE_PAGE - 1) & -HUGE_PAGE);
  madvise(all, 2 * each, MADV_HUGEPAGE);
  for (int i = 0; i < 2; i++) {
    ranges[i].base = all + i * each;
    ranges[i].extents[0] = (Extent){0, (uint32_t)(each / UNIT), false};
    ranges[i].known = 1;
  }
  pthread_atfork(take_lock, give_lock, give_lock);
  __atomic_store_n(&size, each, __ATOMIC_RELEASE);
}

static bool ours(const void *p) { return size && (size_t)((const char *)p - ranges[0].base) < 2 * size; }
static Range *range_of(const void *p) { return &ranges[(const char *)p >= ranges[1].base]; }

/* The extent that holds this block. */
static size_t find(const Range *range, const void *p) {
  uint32_t unit = (uint32_t)(((const char *)p - range->base) / UNIT);
  size_t low = 0, high = range->known;
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (range->extents[middle].first <= unit) low = middle;
    else high = middle;
  }
  return low;
}

static size_t block_size(const void *p) {
  Range *range = range_of(p);
  take_lock();
  size_t bytes = range->extents[find(range, p)].count * UNIT;
  give_lock();
  return bytes;
}

/* A block, or NULL where glibc has to serve; *clean: whether all of it is still zero. */
static void *take(size_t bytes, bool *clean) {
  if (bytes > size) return NULL;
  Range *range = &ranges[bytes >= GIANT];
  uint32_t count = (uint32_t)((bytes + UNIT - 1) / UNIT);
  void *block = NULL;
  take_lock();
  Extent *best = NULL;
  for (Extent *e = range->extents; e < range->extents + range->known; e++)
    if (!e->used && e->count >= count && (!best || e->count < best->count)) best = e;
  if (best && range->known < EXTENTS) {
    if (best->count > count) {
      memmove(best + 2, best + 1, (size_t)(range->extents + range->known - best - 1) * sizeof(Extent));
      best[1] = (Extent){best->first + count, best->count - count, false};
      best->count = count;
      range->known++;
    }
    best->used = true;
    if (clean) *clean = best->first >= range->fresh;
    if (range->fresh < best->first + count) range->fresh = best->first + count;
    block = range->base + best->first * UNIT;
  }
  give_lock();
  return block;
}

static void join_next(Range *range, size_t i) {
  if (i + 1 >= range->known || range->extents[i].used || range->extents[i + 1].used) return;
  range->extents[i].count += range->extents[i + 1].count;
  memmove(&range->extents[i + 1], &range->extents[i + 2], (range->known - i - 2) * sizeof(Extent));
  range->known--;
}

static void give(void *p) {
  Range *range = range_of(p);
  take_lock();
  size_t i = find(range, p);
  range->extents[i].used = false;
  join_next(range, i);
  if (i > 0) join_next(range, i - 1);
  give_lock();
}

void *malloc(size_t bytes) {
  void *block = bytes >= LARGE ? take(bytes, NULL) : NULL;
  return block ? block : __libc_malloc(bytes);
}

void free(void *p) {
  if (ours(p)) give(p);
  else __libc_free(p);
}

void *calloc(size_t n, size_t each) {
  size_t bytes;
  if (__builtin_mul_overflow(n, each, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  bool clean = false;
  void *block = bytes >= LARGE ? take(bytes, &clean) : NULL;
  if (!block) return __libc_calloc(n, each);
  return clean ? block : memset(block, 0, bytes);
}

void *realloc(void *p, size_t bytes) {
  if (!ours(p)) return __libc_realloc(p, bytes);
  if (bytes == 0) {
    free(p);
    return NULL;
  }
  size_t old = block_size(p);
  if (bytes <= old && bytes > old / 2) return p;
  void *block = malloc(bytes);
  if (!block) return NULL;
  memcpy(block, p, bytes < old ? bytes : old);
  free(p);
  return block;
}

void *memalign(size_t alignment, size_t bytes) {
  void *block = bytes >= LARGE && alignment <= UNIT ? take(bytes, NULL) : NULL;
  return block ? block : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **out, size_t alignment, size_t bytes) {
  if (alignment % sizeof(void *) || alignment == 0 || alignment & (alignment - 1)) return EINVAL;
  void *block = memalign(alignment, bytes);
  if (!block) return ENOMEM;
  *out = block;
  return 0;
}

size_t malloc_usable_size(void *p) {
  if (ours(p)) return block_size(p);
  /* glibc keeps the size, and three bits, in front of the block; blocks it mapped have one word more in front. */
  if (!p) return 0;
  size_t chunk = ((size_t *)p)[-1];
  return (chunk & ~(size_t)7) - (chunk & 2 ? 2 : 1) * sizeof(size_t);
}

void *valloc(size_t bytes) { return memalign((size_t)sysconf(_SC_PAGESIZE), bytes); }

void *pvalloc(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return memalign(page, (bytes + page - 1) & -page);
}
