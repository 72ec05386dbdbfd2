/* ROCm as far as a burn-in needs it, with one GPU at 0000:03:00.0 that computes on the processor. It takes nothing that the
 * real one would refuse: handles, the source's entry point, sizes and the launch's shape are checked. Some threads run the
 * kernel's own source (known.h), which takes too long for all of them. -DWRONG breaks a bit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
static struct { unsigned x; } blockIdx, blockDim, threadIdx;
#include "known.h"

enum { OK = 0, INVALID = 1, NO_DEVICE = 101, COMPILATION = 6 };
static const char CODE[] = "code object of known";
static int initialized, device_set, compiled;
static char module, function, program;
static uint32_t *memory;
static size_t memory_bytes;

int hipInit(unsigned flags) { initialized = 1; return flags ? INVALID : OK; }
int hipDeviceGetByPCIBusId(int *device, const char *address) {
  if (!initialized || strcmp(address, "0000:03:00.0")) return NO_DEVICE;
  *device = 0;
  return OK;
}
int hipSetDevice(int device) { device_set = device == 0; return device_set ? OK : NO_DEVICE; }

int hiprtcCreateProgram(void **made, const char *source, const char *name, int headers, const char **texts, const char **names) {
  (void)texts, (void)names;
  if (!source || !name || headers) return INVALID;
  *made = &program;
  compiled = strstr(source, "extern \"C\" __global__ void known(") != 0;
  return OK;
}
int hiprtcCompileProgram(void *of, int options, const char **texts) {
  (void)texts;
#ifdef BROKEN_COMPILER
  compiled = 0;
#endif
  return of == &program && !options && device_set && compiled ? OK : COMPILATION;
}
int hiprtcGetProgramLogSize(void *of, size_t *size) { *size = 14; return of == &program ? OK : INVALID; }
int hiprtcGetProgramLog(void *of, char *log) { strcpy(log, "error: no gfx"); return of == &program ? OK : INVALID; }
int hiprtcGetCodeSize(void *of, size_t *size) { *size = sizeof CODE; return of == &program && compiled ? OK : INVALID; }
int hiprtcGetCode(void *of, char *code) { memcpy(code, CODE, sizeof CODE); return of == &program ? OK : INVALID; }
int hiprtcDestroyProgram(void **of) { int ok = *of == &program; *of = 0; return ok ? OK : INVALID; }

int hipModuleLoadData(void **made, const void *code) { *made = &module; return memcmp(code, CODE, sizeof CODE) ? INVALID : OK; }
int hipModuleGetFunction(void **made, void *of, const char *name) {
  *made = &function;
  return of == &module && !strcmp(name, "known") ? OK : INVALID;
}
int hipModuleUnload(void *of) { return of == &module ? OK : INVALID; }
int hipMalloc(void **made, size_t bytes) { *made = memory = malloc(memory_bytes = bytes); return memory ? OK : INVALID; }
int hipFree(void *of) { int ok = of == memory; free(memory); memory = 0; return ok ? OK : INVALID; }
int hipMemset(void *of, int value, size_t bytes) {
  if (of != memory || bytes > memory_bytes) return INVALID;
  memset(of, value, bytes);
  return OK;
}
int hipMemcpyDtoH(void *to, void *of, size_t bytes) {
  if (of != memory || bytes > memory_bytes) return INVALID;
  memcpy(to, of, bytes);
  return OK;
}
int hipDeviceSynchronize(void) { return OK; }

int hipModuleLaunchKernel(void *of, unsigned x, unsigned y, unsigned z, unsigned wide, unsigned high, unsigned deep,
                          unsigned shared, void *stream, void **given, void **extra) {
  uint32_t *answers = *(uint32_t **)given[0];
  uint32_t factor = *(uint32_t *)given[1], term = *(uint32_t *)given[2], rounds = *(uint32_t *)given[4];
  float one = *(float *)given[3];
  if (of != &function || y != 1 || z != 1 || high != 1 || deep != 1 || shared || stream || extra) return INVALID;
  if (answers != memory || (size_t)x * wide * 4 > memory_bytes) return INVALID;
  uint32_t all = 1, sum = 0; /* the chain of integers in closed form; that of floats below is exact whole numbers */
  for (uint32_t round = 0; round < rounds; ++round) { all *= factor; sum = sum * factor + term; }
  for (uint32_t i = 0; i < x * wide; ++i)
    answers[i] = (i * all + sum) ^ (uint32_t)((float)(i & 1023u) * one + (float)rounds * one);
  blockDim.x = wide;
  for (uint32_t i = 0; i < x * wide; i += 1021) {
    blockIdx.x = i / wide, threadIdx.x = i % wide;
    known(answers, factor, term, one, rounds);
  }
#ifdef WRONG
  answers[77] ^= 4;
#endif
  return OK;
}
