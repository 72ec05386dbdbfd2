/* What a contributor's native code tries, without a C library in between where that matters. Prints "name verdict" lines;
 * does no harm: opens what it does not read, signals with 0, calls what takes nothing.
 * Arguments: the agent's token file, the agent's pid, a TCP port at loopback. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long answer) {
  printf("%s %s\n", name, answer < 0 ? "stopped" : "through");
  fflush(stdout);
}

static long dial(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int sock = socket(AF_INET, SOCK_STREAM, 0);
  return sock < 0 ? -1 : connect(sock, (struct sockaddr *)&to, sizeof to);
}

/* In a child: it may be killed for it. */
static long in_child(long (*call)(void)) {
  int status;
  pid_t pid = fork();
  if (pid == 0) _exit(call() < 0);
  if (pid < 0 || waitpid(pid, &status, 0) < 0) return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static long other_table(void) {
#ifdef __x86_64__
  long answer;  /* getpid of 32-bit processes: whose numbers a filter of 64-bit ones does not know */
  __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
  return answer > 0 ? answer : -1;
#else
  return -1;
#endif
}

static long x32_call(void) {
#ifdef __x86_64__
  return syscall(0x40000000 | 39);
#else
  return -1;
#endif
}

static long writable_code(void) {
  void *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? -1 : 0;
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  say("token", open(arguments[1], O_RDONLY));
  say("signal", kill(atoi(arguments[2]), 0));
  say("network", dial(atoi(arguments[3])));
  say("other-table", in_child(other_table));
  say("x32", in_child(x32_call));
  say("own-code", in_child(writable_code)); /* allowed: kernels are made at run time */
  return 0;
}
