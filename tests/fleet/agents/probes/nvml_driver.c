/* A libnvidia-ml.so.1 of GPUs that are not here: what nvidia-ml-py calls, answered from a table of `GPU key value` lines
   in the file that $NVML_TABLE names. A key that is missing is not supported. `hang 1`: its temperature is never answered.
   `lost 1`: all answer that the GPU is lost. `cost_NAME n`: to answer takes n microseconds of processor time. Energy has grown with power since
   the machine's start, times `energy_scale` thousandths. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_LOADED = 9, TIMEOUT = 10, LOST = 15 };
typedef struct { int gpu; char key[40]; long long value; } Row;
typedef struct { int index; } Gpu;
static Row rows[4096];
static int row_count, gpu_count;
static Gpu gpus[64];
static int waiting_gpu, waiting_xid;

static double elapsed(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}
void table_load(void) {
  FILE *file = fopen(getenv("NVML_TABLE") ? getenv("NVML_TABLE") : "", "r");
  row_count = gpu_count = 0;
  if (!file) return;
  while (row_count < 4096 && fscanf(file, "%d %39s %lld", &rows[row_count].gpu, rows[row_count].key, &rows[row_count].value) == 3) {
    if (rows[row_count].gpu + 1 > gpu_count) gpu_count = rows[row_count].gpu + 1;
    row_count++;
  }
  fclose(file);
  for (int i = 0; i < gpu_count; i++) gpus[i].index = i;
}
void table_xid(int gpu, int xid) { waiting_gpu = gpu; waiting_xid = xid; }
static int get(Gpu *gpu, const char *key, long long *value) {
  for (int i = 0; i < row_count; i++)
    if (rows[i].gpu == gpu->index && !strcmp(rows[i].key, key)) { *value = rows[i].value; return 1; }
  return 0;
}
/* As a driver that talks to its GPU: processor time, at most until the answer is there. */
static void cost(Gpu *gpu, const char *name) {
  char key[40];
  long long micros;
  struct timespec begun, now;
  snprintf(key, 40, "cost_%s", name);
  if (!get(gpu, key, &micros)) return;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while ((now.tv_sec - begun.tv_sec) * 1000000LL + (now.tv_nsec - begun.tv_nsec) / 1000 < micros);
}
static int lost(Gpu *gpu) { long long value; return get(gpu, "lost", &value) && value; }
static int number(Gpu *gpu, const char *key, void *out, int size) {
  long long value;
  if (lost(gpu)) return LOST;
  if (!get(gpu, key, &value)) return UNSUPPORTED;
  if (size == 8) *(uint64_t *)out = value; else *(uint32_t *)out = value;
  return OK;
}
int nvmlInit_v2(void) { table_load(); return gpu_count ? OK : NOT_LOADED; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = gpu_count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **gpu) { if ((int)index >= gpu_count) return INVALID; *gpu = &gpus[index]; return OK; }
int nvmlDeviceGetMinorNumber(Gpu *gpu, unsigned *out) { return number(gpu, "minor", out, 4); }
int nvmlDeviceGetName(Gpu *gpu, char *out, unsigned size) { long long hopper = 0; get(gpu, "gpm", &hopper); snprintf(out, size, hopper ? "NVIDIA H200" : "NVIDIA GeForce RTX 3090"); return OK; }
int nvmlDeviceGetUUID(Gpu *gpu, char *out, unsigned size) { snprintf(out, size, "GPU-0000-%04d", gpu->index); return OK; }
int nvmlDeviceGetSerial(Gpu *gpu, char *out, unsigned size) { long long has; if (!get(gpu, "serial", &has)) return UNSUPPORTED; snprintf(out, size, "%lld", has); return OK; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "580.159.04"); return OK; }
typedef struct { char legacy[16]; unsigned domain, bus, device, pci_device, subsystem; char id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Gpu *gpu, Pci *out) { memset(out, 0, sizeof *out); snprintf(out->id, 32, "00000000:%02X:00.0", 0x1B + gpu->index); return OK; }
int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *out) { return number(gpu, "power", out, 4); }
int nvmlDeviceGetEnforcedPowerLimit(Gpu *gpu, unsigned *out) { return number(gpu, "limit", out, 4); }
int nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, unsigned long long *out) {
  long long base, power = 0, scale = 1000;
  if (lost(gpu)) return LOST;
  if (!get(gpu, "energy", &base)) return UNSUPPORTED;
  cost(gpu, "energy");
  get(gpu, "power", &power); get(gpu, "energy_scale", &scale);
  *out = base + (unsigned long long)(power * elapsed() * scale / 1000);
  return OK;
}
typedef struct { unsigned gpu, memory; } Rates;
int nvmlDeviceGetUtilizationRates(Gpu *gpu, Rates *out) { out->memory = 0; return number(gpu, "busy", &out->gpu, 4); }
typedef struct { uint64_t total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Gpu *gpu, Memory *out) { int failed = number(gpu, "used", &out->used, 8); return failed ? failed : number(gpu, "total", &out->total, 8); }
int nvmlDeviceGetTemperature(Gpu *gpu, int sensor, unsigned *out) { long long hang; (void)sensor; while (get(gpu, "hang", &hang) && hang) usleep(20000); return number(gpu, "temperature", out, 4); }
int nvmlDeviceGetFanSpeed(Gpu *gpu, unsigned *out) { cost(gpu, "fan"); return number(gpu, "fan", out, 4); }
int nvmlDeviceGetCurrentClocksEventReasons(Gpu *gpu, unsigned long long *out) { return number(gpu, "reasons", out, 8); }
int nvmlDeviceGetPcieThroughput(Gpu *gpu, int direction, unsigned *out) { char key[24]; snprintf(key, 24, "throughput%d", direction); return number(gpu, key, out, 4); }
int nvmlDeviceGetClockInfo(Gpu *gpu, int domain, unsigned *out) { char key[24]; snprintf(key, 24, "clock%d", domain); return number(gpu, key, out, 4); }
int nvmlDeviceGetCurrPcieLinkWidth(Gpu *gpu, unsigned *out) { cost(gpu, "link"); return number(gpu, "width", out, 4); }
int nvmlDeviceGetMaxPcieLinkWidth(Gpu *gpu, unsigned *out) { cost(gpu, "link"); return number(gpu, "width_max", out, 4); }
int nvmlDeviceGetCurrPcieLinkGeneration(Gpu *gpu, unsigned *out) { cost(gpu, "link"); return number(gpu, "generation", out, 4); }
int nvmlDeviceGetMaxPcieLinkGeneration(Gpu *gpu, unsigned *out) { cost(gpu, "link"); return number(gpu, "generation", out, 4); }
int nvmlDeviceGetTotalEccErrors(Gpu *gpu, int kind, int counter, unsigned long long *out) { char key[24]; snprintf(key, 24, "ecc%d%d", kind, counter); return number(gpu, key, out, 8); }
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, void *infos) { (void)infos; cost(gpu, "processes"); if (lost(gpu)) return LOST; *count = 0; return OK; }
typedef struct { unsigned id, scope; long long time, latency; unsigned kind; int status; union { double d; unsigned u; unsigned long long q; } value; } Field;
int nvmlDeviceGetFieldValues(Gpu *gpu, int count, Field *fields) {
  if (lost(gpu)) return LOST;
  for (int i = 0; i < count; i++) {
    char key[24];
    long long value;
    snprintf(key, 24, "field%u", fields[i].id);
    cost(gpu, key);
    fields[i].kind = 3;
    fields[i].status = get(gpu, key, &value) ? OK : UNSUPPORTED;
    if (!fields[i].status) fields[i].value.q = value;
  }
  return OK;
}
typedef struct { unsigned version, supported; } Support;
int nvmlGpmQueryDeviceSupport(Gpu *gpu, Support *out) { long long has = 0; get(gpu, "gpm", &has); out->supported = has != 0; return OK; }
int nvmlGpmSampleAlloc(Gpu ***out) { *out = calloc(1, sizeof **out); return OK; }
int nvmlGpmSampleFree(Gpu **sample) { free(sample); return OK; }
int nvmlGpmSampleGet(Gpu *gpu, Gpu **sample) { if (lost(gpu)) return LOST; *sample = gpu; return OK; }
typedef struct { unsigned id; int status; double value; const char *names[3]; } Metric;
typedef struct { unsigned version, count; Gpu **first, **second; Metric metrics[1]; } Metrics;
int nvmlGpmMetricsGet(Metrics *request) {
  for (unsigned i = 0; i < request->count; i++) {
    char key[24];
    long long value;
    snprintf(key, 24, "gpm%u", request->metrics[i].id);
    request->metrics[i].status = get(*request->second, key, &value) ? OK : UNSUPPORTED;
    request->metrics[i].value = value / 10.0;
  }
  return OK;
}
int nvmlEventSetCreate(int **out) { *out = malloc(4); return OK; }
int nvmlEventSetFree(int *set) { free(set); return OK; }
int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long types, int *set) { (void)gpu; (void)types; (void)set; return OK; }
typedef struct { Gpu *gpu; unsigned long long type, data; unsigned gi, ci; } Event;
int nvmlEventSetWait_v2(int *set, Event *out, unsigned wait_ms) {
  (void)set;
  for (unsigned waited = 0; !waiting_xid; waited += 200) {
    if (waited >= wait_ms) return TIMEOUT;
    usleep(200000);
  }
  out->gpu = &gpus[waiting_gpu]; out->type = 8; out->data = waiting_xid; waiting_xid = 0;
  return OK;
}
