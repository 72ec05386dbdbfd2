#ifndef TF_f32
#define TF_f32
typedef float f32;
#endif
#ifndef TF_f32x16
#define TF_f32x16
typedef float f32x16 __attribute__((vector_size(64)));
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_splat_f32x16
#define TF_splat_f32x16
static inline __attribute__((always_inline)) f32x16 splat_f32x16(f32 a) { return (f32x16){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_f32x16m
#define TF_f32x16m
typedef float f32x16m __attribute__((vector_size(64), aligned(4), may_alias));
#endif
#ifndef TF_fma_f32x16
#define TF_fma_f32x16
static inline __attribute__((always_inline)) f32x16 fma_f32x16(f32x16 a, f32x16 b, f32x16 c) { return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4); }
#endif
void gemm_tile(void *const *buffers, long first, long last) {
  const f32 *restrict in0 = buffers[1];
  const f32 *restrict in1 = buffers[2];
  f32 *restrict out = buffers[0];
  f32x16 a0_0, a0_1;
  for (long r3 = first; r3 < last; r3++) {
    const i64 v0 = r3 * 64L;
    const i64 v1 = r3 * 16L;
    for (long r5 = 0; r5 < 2; r5++) {
      const i64 v2 = r5 * 16L;
      const i64 v3 = v0 + v2;
      a0_0 = splat_f32x16(0x0p+0f);
      a0_1 = splat_f32x16(0x0p+0f);
      for (long r6 = 0; r6 < 8; r6++) {
        const i64 v4 = v1 + r6;
        const f32 v5 = in0[v4];
        const i64 v6 = r6 * 32L;
        const i64 v7 = v2 + v6;
        const f32x16 v8 = *(const f32x16m *)(in1 + v7);
        a0_0 = fma_f32x16(splat_f32x16(v5), v8, a0_0);
        const f32 v9 = in0[v4 + 8L];
        a0_1 = fma_f32x16(splat_f32x16(v9), v8, a0_1);
      }
      *(f32x16m *)(out + v3) = a0_0;
      *(f32x16m *)(out + (v3 + 32L)) = a0_1;
    }}
}
