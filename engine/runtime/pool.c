/* The worker pool of the CPU runtime: threads started once, one command at a time, no Python on the path.
 *
 * A command is (function, buffers, tiles): whoever takes part claims the next tile until none is left. Which thread
 * computes a tile never changes what it computes. Workers spin for a moment, then sleep on a futex; only as many
 * are woken as there is work for.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_WORKERS = 63, SPINS = 2000, MAX_BUFFERS = 64 };
static const size_t HUGE_PAGE = 1 << 21;

typedef void kernel_function(void *const *buffers, long first, long last);

static struct {
  kernel_function *function;
  void *const *buffers;
  int count;            /* of buffers */
  size_t scratch;       /* bytes of the last buffer, which each thread has for itself; 0: it has no such buffer */
  long tiles;
  atomic_long next;     /* the first tile nobody has claimed */
  atomic_int seats;     /* how many more workers may take part in the current command */
  atomic_int finished;  /* how many workers that took a seat are done; a futex */
  atomic_uint commands; /* counts commands; a futex that workers sleep on */
  atomic_int sleeping;
  int workers;
} pool;

static pthread_mutex_t submitting = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;

static void futex_wait(void *word, unsigned seen) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0); }
static void futex_wake(void *word, int count) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, 0, 0, 0); }

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_tiles(void *const *buffers) {
  for (;;) {
    long tile = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
    if (tile >= pool.tiles) return;
    pool.function(buffers, tile, tile + 1);
  }
}

/* This worker's scratch memory, kept from one command to the next; 0 if the system gives none. */
static void *own_scratch(size_t size) {
  static _Thread_local char *memory;
  static _Thread_local size_t held;
  if (held < size) {
    if (memory) munmap(memory, held + HUGE_PAGE);
    held = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    memory = mmap(0, held + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      memory = 0;
      held = 0;
      return 0;
    }
    madvise(memory, held + HUGE_PAGE, MADV_HUGEPAGE);
  }
  return (void *)(((uintptr_t)memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}

/* A worker's part. Without scratch memory it leaves the tiles to the others. */
static void run_worker_tiles(void) {
  void *own[MAX_BUFFERS];
  if (!pool.scratch) {
    run_tiles(pool.buffers);
    return;
  }
  memcpy(own, pool.buffers, (size_t)pool.count * sizeof *own);
  own[pool.count - 1] = own_scratch(pool.scratch);
  if (own[pool.count - 1]) run_tiles(own);
}

static int take_seat(void) {
  int seats = atomic_load_explicit(&pool.seats, memory_order_relaxed);
  while (seats > 0)
    if (atomic_compare_exchange_weak_explicit(&pool.seats, &seats, seats - 1, memory_order_acquire,
                                              memory_order_relaxed))
      return 1;
  return 0;
}

/* Wait until the command count is no longer `seen`; the count then. */
static unsigned next_command(unsigned seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    unsigned now = atomic_load_explicit(&pool.commands, memory_order_acquire);
    if (now != seen) return now;
    relax();
  }
  atomic_fetch_add(&pool.sleeping, 1);
  while (atomic_load(&pool.commands) == seen) futex_wait(&pool.commands, seen);
  atomic_fetch_sub(&pool.sleeping, 1);
  return atomic_load_explicit(&pool.commands, memory_order_acquire);
}

static void *work(void *start) {
  unsigned seen = (unsigned)(unsigned long)start;
  fesetenv(FE_DFL_ENV); /* a thread inherits its creator's rounding and flush-to-zero bits: results must not */
  for (;;) {
    if (take_seat()) {
      run_worker_tiles();
      atomic_fetch_add_explicit(&pool.finished, 1, memory_order_release);
      futex_wake(&pool.finished, 1);
    }
    seen = next_command(seen);
  }
  return 0;
}

/* Threads do not survive a fork: the child starts its own. */
static void forget_workers(void) {
  pool.workers = 0;
  atomic_store(&pool.seats, 0);
  atomic_store(&pool.sleeping, 0);
  pthread_mutex_init(&submitting, 0);
}

static void install_fork_handler(void) { pthread_atfork(0, 0, forget_workers); }

/* As many workers as wanted, or as the system gives; signals are left to the threads of Python. */
static void start_workers(int wanted) {
  pthread_once(&fork_handler, install_fork_handler);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < wanted && pool.workers < MAX_WORKERS) {
    pthread_t thread;
    unsigned long seen = atomic_load(&pool.commands);
    if (pthread_create(&thread, 0, work, (void *)seen)) break;
    pthread_detach(thread);
    pool.workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, 0);
}

static void await_workers(int count) {
  for (int spin = 0;; spin++) {
    int finished = atomic_load_explicit(&pool.finished, memory_order_acquire);
    if (finished == count) return;
    if (spin < SPINS)
      relax();
    else
      futex_wait(&pool.finished, (unsigned)finished);
  }
}

/* Run tiles [0, tiles) on at most `threads` threads, the caller's among them; returns when all are done.
 *
 * With `scratch` the last of `count` buffers is so many bytes for the caller's thread; other threads use their own.
 */
void pool_run(kernel_function *function, void *const *buffers, int count, size_t scratch, long tiles, int threads) {
  int wanted = threads - 1; /* workers beside the caller */
  if (wanted > tiles - 1) wanted = tiles > 0 ? (int)(tiles - 1) : 0;
  if (scratch && count > MAX_BUFFERS) wanted = 0;
  if (wanted <= 0) {
    function(buffers, 0, tiles);
    return;
  }
  pthread_mutex_lock(&submitting);
  start_workers(wanted);
  if (wanted > pool.workers) wanted = pool.workers;
  pool.function = function;
  pool.buffers = buffers;
  pool.count = count;
  pool.scratch = scratch;
  pool.tiles = tiles;
  atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.finished, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.seats, wanted, memory_order_release);
  atomic_fetch_add(&pool.commands, 1);
  if (atomic_load(&pool.sleeping) > 0) futex_wake(&pool.commands, wanted);
  run_tiles(buffers);
  int unclaimed = atomic_exchange(&pool.seats, 0);
  await_workers(wanted - unclaimed);
  pthread_mutex_unlock(&submitting);
}
