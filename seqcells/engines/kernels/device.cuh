// Hardware operations for time_loop.cu, from compute capability 9.0 on (PTX ISA, version 8.0).

typedef unsigned short Bfloat16;  // its bits

#define SHARED(name) extern __shared__ __align__(16) unsigned name[]

// The number of this block in its cluster.
__device__ __forceinline__ int rank() {
  int result;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(result));
  return result;
}

// The barrier of a cluster: every store before `arrive` is visible after `wait`.
__device__ __forceinline__ void arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Store a word in another block's shared memory, at the place of `place` in this block's.
__device__ __forceinline__ void store(const void* place, int block, unsigned word) {
  const unsigned here = (unsigned)__cvta_generic_to_shared(place);
  unsigned there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(block));
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(there), "r"(word) : "memory");
}

// A word of this block's shared memory.
__device__ __forceinline__ unsigned get(const unsigned* place) { return *place; }

__device__ __forceinline__ void put(unsigned* place, unsigned word) { *place = word; }

// Two numbers of global memory, side by side.
__device__ __forceinline__ void put(float* place, float low, float high) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(place)), "f"(low),
               "f"(high)
               : "memory");
}

// Two numbers rounded to bfloat16, the first in the lower half.
__device__ __forceinline__ unsigned pack(float low, float high) {
  unsigned result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// The fragment of a tile of 16x16 of bfloat16 in shared memory, of which each lane names a row of
// 8: lanes 0 to 15 the left halves of the rows, the others the right ones.
__device__ __forceinline__ void load(unsigned (&a)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

// Add the product of a tile of 16x16 and one of 16x8 to one of 16x8.
__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// With the fast exponential and quotient, whose errors are at most 2 + 1.173 |x| and 2 units in the
// last place (NVIDIA's CUDA programming guide, intrinsic functions): 1e-5 of it at most.
__device__ __forceinline__ float logistic(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}
