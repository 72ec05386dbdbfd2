// What the machine's memory allows: the loops that benchmarks compare with. VECTOR_BYTES is the width of a register.
//
// Each does elements (or rows of `width`) from `first` to `last`; whoever shares them out starts each part at a multiple
// of 4096 elements, and arrays start at whole cache lines. `step` vectors are what one turn of a loop does.
#include <stddef.h>
#include <string.h>
#if defined(__x86_64__) && !defined(__clang__)
#include <immintrin.h>
#endif

typedef float vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef int integers __attribute__((vector_size(VECTOR_BYTES)));
enum { LANES = VECTOR_BYTES / 4, SUMS = 8, ROWS = 4, AHEAD = 1024 };
#define LOOP(name) void name(float *out, const float *a, const float *b, long first, long last, long width)

static inline void stream(float *place, vector value) {
#if defined(__clang__)
  __builtin_nontemporal_store(value, (vector *)place);
#elif defined(__AVX512F__)
  _mm512_stream_ps(place, (__m512)value);
#elif defined(__AVX__)
  _mm256_stream_ps(place, (__m256)value);
#elif defined(__SSE2__)
  _mm_stream_ps(place, (__m128)value);
#else
  *(vector *)place = value;
#endif
}
static inline void fence(void) {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}
static inline vector at(const float *place) { return *(const vector *)place; }
static inline vector relu(vector x) {
  vector zero = {0};
  return (vector)((integers)x & (x > zero));
}
static inline float total(vector x) {
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += x[lane];
  return sum;
}

#define PLAIN(name, of_vectors, of_floats)                                            \
  LOOP(name) {                                                                        \
    long i = first;                                                                   \
    for (; i + LANES <= last; i += LANES) *(vector *)(out + i) = of_vectors;          \
    for (; i < last; i++) out[i] = of_floats;                                         \
  }
#define STREAM(name, of_vectors, of_floats)                                           \
  LOOP(name) {                                                                        \
    long i = first;                                                                   \
    for (; i + LANES <= last; i += LANES) stream(out + i, of_vectors);                \
    for (; i < last; i++) out[i] = of_floats;                                         \
    fence();                                                                          \
  }
#define BOTH(name, of_vectors, of_floats) PLAIN(name##_plain, of_vectors, of_floats) STREAM(name##_stream, of_vectors, of_floats)
#define POSITIVE(x) ((x) > 0 ? (x) : 0)

BOTH(copy, at(a + i), a[i])
BOTH(add, at(a + i) + at(b + i), a[i] + b[i])
BOTH(fused, relu(at(a + i) * at(b + i) + at(a + i)), POSITIVE(a[i] * b[i] + a[i]))
LOOP(copy_memcpy) { memcpy(out + first, a + first, (last - first) * sizeof(float)); }

// The sum of a part goes to out[0].
static inline void sum(float *out, const float *a, long first, long last, int ahead) {
  vector sums[SUMS] = {{0}};
  long i = first;
  for (; i + SUMS * LANES <= last; i += SUMS * LANES)
    for (int k = 0; k < SUMS; k++) {
      if (ahead) __builtin_prefetch(a + i + k * LANES + AHEAD, 0, 0);
      sums[k] += at(a + i + k * LANES);
    }
  float rest = 0;
  for (; i < last; i++) rest += a[i];
  for (int k = 1; k < SUMS; k++) sums[0] += sums[k];
  out[0] = total(sums[0]) + rest;
}
LOOP(sum_plain) { sum(out, a, first, last, 0); }
LOOP(sum_prefetch) { sum(out, a, first, last, 1); }

// out = a · b for rows of a; `width` is a multiple of SUMS * LANES.
LOOP(matvec_plain) {
  for (long row = first; row < last; row++) {
    vector sums[SUMS] = {{0}};
    const float *line = a + row * width;
    for (long j = 0; j < width; j += SUMS * LANES)
      for (int k = 0; k < SUMS; k++) sums[k] += at(line + j + k * LANES) * at(b + j + k * LANES);
    for (int k = 1; k < SUMS; k++) sums[0] += sums[k];
    out[row] = total(sums[0]);
  }
}
LOOP(matvec_rows) {
  long row = first;
  for (; row + ROWS <= last; row += ROWS) {
    vector sums[ROWS][2] = {{{0}}};
    for (long j = 0; j < width; j += 2 * LANES)
      for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < 2; k++)
          sums[r][k] += at(a + (row + r) * width + j + k * LANES) * at(b + j + k * LANES);
    for (int r = 0; r < ROWS; r++) out[row + r] = total(sums[r][0] + sums[r][1]);
  }
  matvec_plain(out, a, b, row, last, width);
}

// `last - first` turns of multiply-adds in registers: what a core's arithmetic gives when nothing else binds it.
LOOP(multiply_adds) {
  vector sums[12], factor = at(a), term = at(a);
  for (int k = 0; k < 12; k++) sums[k] = at(a) + (float)k;
  for (long i = first; i < last; i++)
    for (int k = 0; k < 12; k++) {
      sums[k] = sums[k] * factor + term;
      __asm__("" : "+x"(sums[k]));
    }
  for (int k = 1; k < 12; k++) sums[0] += sums[k];
  out[0] = total(sums[0]);
}
