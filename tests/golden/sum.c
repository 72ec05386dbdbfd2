#ifndef TF_f32
#define TF_f32
typedef float f32;
#endif
void sum(void *const *buffers, long first, long last) {
  const f32 *restrict in0 = buffers[1];
  f32 *restrict out = buffers[0];
  f32 a0_0;
  a0_0 = 0x0p+0f;
  for (long r1 = 0; r1 < 64; r1++) {
    const f32 v0 = in0[r1];
    a0_0 = a0_0 + v0;
  }
  out[0] = a0_0;
}
