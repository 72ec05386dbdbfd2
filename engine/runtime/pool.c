/* The worker pool of the CPU runtime: threads outside Python, started once, that wait on a ring of commands.
 *
 * A command is (function, buffers, tiles). Who submits one takes part in it, and as many workers as it has seats for:
 * each claims the next tile until none is left. Which thread computes a tile never changes what it computes. Several
 * threads may submit at a time: each command has a place in the ring, and one that finds its place taken is computed by
 * its own thread alone. Workers spin for a moment, then sleep on a futex; only as many are woken as there are seats.
 *
 * A list of launches (pool_replay) is a graph of kernels in their order, with nothing but C between them.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 63, FEW_WORKERS = 7, RING = 8, SPINS = 2000, CACHE_LINE = 64, HUGE_PAGE = 2 << 20 };

typedef void kernel_function(void *const *buffers, long first, long last);

struct command {
  _Alignas(CACHE_LINE) kernel_function *function;
  void *const *buffers;
  long count;       /* of buffers */
  long scratch;     /* bytes of the last buffer, which each thread has for itself; 0: there is no such buffer */
  long tiles;
  atomic_int taken; /* the place holds a command */
  _Alignas(CACHE_LINE) atomic_long next; /* the first tile nobody has claimed */
  atomic_int seats;                      /* how many more workers may take part */
  atomic_int finished;                   /* how many workers that took a seat are done; a futex */
  atomic_int awaited;                    /* the submitter sleeps on `finished` */
};

struct pool {
  struct command ring[RING];
  atomic_uint turn;   /* counts places given out */
  atomic_uint active; /* commands in the ring */
  _Alignas(CACHE_LINE) atomic_uint submitted; /* counts commands; a futex that workers sleep on */
  atomic_int spinning, sleeping;              /* workers without a command */
  atomic_int workers, pinned;
  atomic_int most; /* workers: no more than the system gave */
  int pin;         /* each worker to a core of its own */
  atomic_int avoided; /* the core that free workers keep off, plus 1; 0: none yet */
  pthread_t threads[MAX_WORKERS];
  pthread_mutex_t starting;
};

/* A worker's own scratch memory. */
struct arena {
  char *memory;
  long bytes;
};

static struct pool pools[2]; /* one with free workers, one with pinned ones */
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void futex_wait(void *word, unsigned seen) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0); }
static void futex_wake(void *word, int count) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, 0, 0, 0); }

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* ------------------------------------------------------------------------------------------------ scratch memory */

/* At least `bytes` from a multiple of HUGE_PAGE on, on huge pages where the system gives them; 0 if it gives nothing. */
static char *map_aligned(long bytes) {
  char *raw = mmap(0, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return 0;
  long before = -(intptr_t)raw & (HUGE_PAGE - 1);
  if (before) munmap(raw, before);
  if (before != HUGE_PAGE) munmap(raw + before + bytes, HUGE_PAGE - before);
  madvise(raw + before, bytes, MADV_HUGEPAGE); /* where that is not to be had, small pages do */
  return raw + before;
}

/* Does the arena, grown if need be, hold `bytes`? What was in it is lost then. */
static int reaches(struct arena *arena, long bytes) {
  if (bytes <= arena->bytes) return 1;
  if (arena->memory) munmap(arena->memory, arena->bytes);
  arena->bytes = (bytes + HUGE_PAGE - 1) & ~(long)(HUGE_PAGE - 1);
  arena->memory = map_aligned(arena->bytes);
  if (!arena->memory) arena->bytes = 0;
  return arena->memory != 0;
}

/* ------------------------------------------------------------------------------------------------------- workers */

static void run_tiles(struct command *command, void *const *buffers) {
  for (;;) {
    long tile = atomic_fetch_add_explicit(&command->next, 1, memory_order_relaxed);
    if (tile >= command->tiles) return;
    command->function(buffers, tile, tile + 1);
  }
}

/* A worker's part, with scratch memory of its own. Without any it leaves the tiles to others: the submitter has some. */
static void run_worker_tiles(struct command *command, struct arena *arena) {
  if (!command->scratch) {
    run_tiles(command, command->buffers);
    return;
  }
  void *own[command->count];
  if (!reaches(arena, command->scratch)) return;
  memcpy(own, command->buffers, (size_t)command->count * sizeof *own);
  own[command->count - 1] = arena->memory;
  run_tiles(command, own);
}

/* A command with a free seat, which is taken; 0 if there is none. */
static struct command *take_seat(struct pool *pool) {
  for (struct command *command = pool->ring; command < pool->ring + RING; command++) {
    int seats = atomic_load_explicit(&command->seats, memory_order_relaxed);
    while (seats > 0)
      if (atomic_compare_exchange_weak_explicit(&command->seats, &seats, seats - 1, memory_order_acquire,
                                                memory_order_relaxed))
        return command;
  }
  return 0;
}

static void serve(struct command *command, struct arena *arena) {
  run_worker_tiles(command, arena);
  atomic_fetch_add(&command->finished, 1);
  if (atomic_load(&command->awaited)) futex_wake(&command->finished, 1);
}

/* Wait until the count of commands is no longer `seen`; it may return early. */
static void await_command(struct pool *pool, unsigned seen) {
  atomic_fetch_add(&pool->spinning, 1);
  for (int spin = 0; spin < SPINS; spin++) {
    if (atomic_load_explicit(&pool->submitted, memory_order_relaxed) != seen) {
      atomic_fetch_sub(&pool->spinning, 1);
      return;
    }
    relax();
  }
  atomic_fetch_add(&pool->sleeping, 1); /* before it counts as spinning no more: whoever submits sees one of both */
  atomic_fetch_sub(&pool->spinning, 1);
  futex_wait(&pool->submitted, seen);
  atomic_fetch_sub(&pool->sleeping, 1);
}

static void *work(void *start) {
  struct pool *pool = start;
  struct arena arena = {0, 0};
  fesetenv(FE_DFL_ENV); /* a thread inherits its creator's rounding and flush-to-zero bits: results must not */
  for (;;) {
    unsigned seen = atomic_load(&pool->submitted); /* before the look round: what comes after it changes the count */
    struct command *command = take_seat(pool);
    if (command)
      serve(command, &arena);
    else
      await_command(pool, seen);
  }
  return 0;
}

/* The core for a worker: those of this process, the first of which is left to whoever submits. 1 if it is there now. */
static int pin(pthread_t thread, int number) {
  cpu_set_t ours, one;
  if (sched_getaffinity(0, sizeof ours, &ours)) return 0;
  for (int core = 0, skip = number + 1; core < CPU_SETSIZE; core++) {
    if (!CPU_ISSET(core, &ours) || skip--) continue;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    return !pthread_setaffinity_np(thread, sizeof one, &one);
  }
  return 0;
}

/* As many workers as wanted, or as the system gives; signals are left to the threads of Python. */
static void start_workers(struct pool *pool, int wanted) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_mutex_lock(&pool->starting);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int number = pool->workers; number < wanted && number < pool->most; number++) {
    pthread_t thread;
    if (pthread_create(&thread, 0, work, pool)) {
      pool->most = number;
      break;
    }
    pthread_setname_np(thread, "kernel");
    if (pool->pin) atomic_fetch_add(&pool->pinned, pin(thread, number));
    pool->threads[number] = thread;
    pthread_detach(thread);
    atomic_fetch_add(&pool->workers, 1);
    atomic_store(&pool->avoided, 0); /* by the others, not yet by this one */
  }
  pthread_sigmask(SIG_SETMASK, &before, 0);
  pthread_mutex_unlock(&pool->starting);
}

/* ---------------------------------------------------------------------------------------------------- submitting */

static struct command *take_place(struct pool *pool) {
  struct command *command = &pool->ring[atomic_fetch_add(&pool->turn, 1) % RING];
  return atomic_exchange(&command->taken, 1) ? 0 : command;
}

/* Free workers off the submitter's core before they are woken, where there are few of them and another core for each.
 *
 * Where few cores share a cache, Linux gives up looking for an idle one while they are half busy: it wakes a worker on
 * the core it slept on, behind the submitter, and moves it some 10 ms later, when the kernel may be done.
 */
static void keep_off_own_core(struct pool *pool) {
  int core = sched_getcpu(), workers = pool->workers;
  cpu_set_t others;
  if (pool->pin || workers > FEW_WORKERS || core < 0 || atomic_load(&pool->avoided) == core + 1) return;
  if (sched_getaffinity(0, sizeof others, &others) || CPU_COUNT(&others) <= workers) return;
  CPU_CLR(core, &others);
  for (int number = 0; number < workers; number++) pthread_setaffinity_np(pool->threads[number], sizeof others, &others);
  atomic_store(&pool->avoided, core + 1);
}

static void publish(struct pool *pool, struct command *command, int seats) {
  /* another command's submitter counts on the same spinning workers: then sleeping ones are woken for this one */
  int awake = atomic_fetch_add(&pool->active, 1) ? 0 : atomic_load(&pool->spinning);
  if (seats > awake) keep_off_own_core(pool);
  atomic_store_explicit(&command->next, 0, memory_order_relaxed);
  atomic_store_explicit(&command->finished, 0, memory_order_relaxed);
  atomic_store_explicit(&command->awaited, 0, memory_order_relaxed);
  atomic_store_explicit(&command->seats, seats, memory_order_release);
  atomic_fetch_add(&pool->submitted, 1);
  if (seats > awake && atomic_load(&pool->sleeping)) futex_wake(&pool->submitted, seats - awake);
}

static void await_workers(struct command *command, int count) {
  for (int spin = 0; atomic_load(&command->finished) != count; spin++) {
    if (spin < SPINS) {
      relax();
      continue;
    }
    atomic_store(&command->awaited, 1);
    int finished = atomic_load(&command->finished);
    if (finished != count) futex_wait(&command->finished, (unsigned)finished);
  }
}

static void share(struct pool *pool, struct command *command, int seats) {
  publish(pool, command, seats);
  run_tiles(command, command->buffers);
  int unclaimed = atomic_exchange(&command->seats, 0);
  await_workers(command, seats - unclaimed);
  atomic_fetch_sub(&pool->active, 1);
  atomic_store(&command->taken, 0);
}

/* Run tiles [0, tiles) on at most `threads` threads, the caller's among them; returns when all are done.
 *
 * With `scratch` the last of `count` buffers is so many bytes for the caller's thread; workers use their own.
 */
void pool_run(struct pool *pool, kernel_function *function, void *const *buffers, long count, long scratch, long tiles,
              int threads) {
  int seats = (tiles < threads ? (int)tiles : threads) - 1; /* for workers beside the caller */
  if (seats > pool->most) seats = pool->most;
  if (seats > pool->workers) start_workers(pool, seats);
  if (seats > pool->workers) seats = pool->workers;
  struct command *command = seats > 0 ? take_place(pool) : 0;
  if (!command) {
    function(buffers, 0, tiles);
    return;
  }
  command->function = function;
  command->buffers = buffers;
  command->count = count;
  command->scratch = scratch;
  command->tiles = tiles;
  share(pool, command, seats);
}

/* One kernel of a list: its buffers are memory[slots[0]] … memory[slots[count - 1]], and scratch memory if it needs any. */
struct launch {
  kernel_function *function;
  const int *slots;
  long count;
  long scratch;
  long tiles;
  long subject; /* what events call it */
  long size; /* with a `step`, only the first memory[size] · unit elements are needed, of which a tile has `step` */
  long unit;
  long step;
  kernel_function *shorter; /* is called instead for up to `most` elements, each of which is a tile of its */
  long most;
};

/* Run the tiles that are needed. */
static void run_launch(struct pool *pool, const struct launch *launch, void *const *memory, void *const *buffers,
                       int threads) {
  kernel_function *function = launch->function;
  long tiles = launch->tiles;
  if (launch->step) {
    long needed = *(const int64_t *)memory[launch->size] * launch->unit;
    long covering = (needed + launch->step - 1) / launch->step;
    if (covering < tiles) tiles = covering;
    if (needed <= launch->most) {
      function = launch->shorter;
      tiles = needed;
    }
  }
  pool_run(pool, function, buffers, launch->count + (launch->scratch > 0), launch->scratch, tiles, threads);
}

/* A row of the ring of events (engine/runtime/ring.py): what ran from when to when, in nanoseconds. */
struct event {
  atomic_long ticket;
  long subject, start, end;
};

static long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Run `launches` one after the other; `scratch` is the caller's, as much as the one needs that needs most.
 *
 * Each is an event: the one with `ticket`, and those that follow, lie in `ring` at [ticket & mask].
 */
void pool_replay(struct pool *pool, const struct launch *launches, long count, void *const *memory, void *scratch,
                 int threads, struct event *ring, long mask, long ticket) {
  long start = now();
  for (const struct launch *launch = launches; launch < launches + count; launch++, ticket++) {
    void *buffers[launch->count + 1];
    for (long i = 0; i < launch->count; i++) buffers[i] = memory[launch->slots[i]];
    buffers[launch->count] = scratch;
    run_launch(pool, launch, memory, buffers, threads);
    struct event *event = &ring[ticket & mask];
    atomic_store_explicit(&event->ticket, 0, memory_order_relaxed); /* no reader takes half a row for a whole one */
    atomic_thread_fence(memory_order_release);
    event->subject = launch->subject;
    event->start = start;
    event->end = start = now();
    atomic_store_explicit(&event->ticket, ticket, memory_order_release);
  }
}

/* ------------------------------------------------------------------------------------------------------- a pool */

/* Threads do not survive a fork: the child starts its own, and no command is in the ring. */
static void forget_workers(void) {
  for (int pinned = 0; pinned < 2; pinned++) {
    pools[pinned] = (struct pool){.most = MAX_WORKERS, .pin = pinned};
    pthread_mutex_init(&pools[pinned].starting, 0);
  }
}

static void prepare(void) {
  forget_workers();
  pthread_atfork(0, 0, forget_workers);
}

/* This process's pool of free workers, or of pinned ones; they start when first needed. */
struct pool *pool_open(int pinned) {
  pthread_once(&prepared, prepare);
  return &pools[pinned != 0];
}

/* How many workers have been started, and how many of them have a core of their own. */
void pool_count(struct pool *pool, int *workers, int *pinned) {
  *workers = pool->workers;
  *pinned = pool->pinned;
}
