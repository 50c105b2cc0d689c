// A time loop (see _time_loop.py), in one launch. A cluster of blocks runs 16 rows of the batch
// through all steps. Its blocks share the recurrent matrices: each holds the columns of its own
// units, in registers and, if those do not suffice, in its shared memory. The operands of a step's
// products are exchanged through the shared memory of all blocks, in two buffers that alternate, so
// that a step needs one barrier.
//
// A warp computes 8 units of 16 rows. A lane computes two units of two rows, in the layout of
// `multiply`.
//
// _cuda.py writes before this file: the sizes, PARAMETERS and lists of them; and three functions of
// one unit of one row: `begin` (the state before the first step), `operands` (of the products) and
// `advance` (the new state and the outputs).

constexpr int WARPS = UNITS / BLOCKS / COLUMNS, SLICES = UNITS / SLICE;
constexpr int BUFFER = OPERANDS * TILE * STRIDE;
constexpr int OTHERS = SLICES - KEPT;  // slices that are not in registers

extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(32 * WARPS, 1)
    NAME(PARAMETERS) {
  const float* const reads[] = {READ};
  const float* const rows[] = {ROW};
  const int* const codes = CODE;
  const Bfloat16* const matrices = MATRICES;
  const float* const biases = BIASES;
  float* const writes[] = {WRITTEN};

  SHARED(shared);
  Bfloat16* const buffers = reinterpret_cast<Bfloat16*>(shared);  // [2][OPERANDS][16][STRIDE]
  unsigned* const others = shared + BUFFER;               // [DOTS][OTHERS][WARPS][32][2]

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, block = rank();
  const int tile = blockIdx.x / BLOCKS % TILES, member = blockIdx.x / BLOCKS / TILES;
  const int first = (block * WARPS + warp) * COLUMNS;
  const int unit = first + lane % 4 * 2;
  const bool real[2] = {unit < SIZE, unit + 1 < SIZE};
  const int line[2] = {lane / 4, lane / 4 + 8};
  const int row[2] = {tile * TILE + line[0], tile * TILE + line[1]};
  const bool live[2] = {row[0] < ROWS, row[1] < ROWS};

  const auto other = [&](int g, int k, int i) {
    return others + (((g * OTHERS + k - KEPT) * WARPS + warp) * 32 + lane) * 2 + i;
  };
  unsigned kept[DOTS][KEPT + 1][2];  // one more, since KEPT may be 0
#pragma unroll
  for (int g = 0; g < DOTS; ++g)
#pragma unroll
    for (int k = 0; k < SLICES; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int from = k * SLICE + i * 8 + lane % 4 * 2;
        const size_t at = (((size_t)member * DOTS + g) * UNITS + from) * UNITS + first + lane / 4;
        const unsigned word = matrices[at] | (unsigned)matrices[at + UNITS] << 16;
        if (k < KEPT)
          kept[g][k][i] = word;
        else
          put(other(g, k, i), word);
      }

  float constants[2][2][CONSTANTS], state[2][2][STATES];
  float inputs[2][2][READS], following[2][2][READS];
  int code[2] = {STEP, STEP}, following_code[2] = {STEP, STEP};
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int n = 0; n < CONSTANTS; ++n) {
        const size_t at = ((size_t)member * ROWS + row[i]) * UNITS + unit + j;
        if (n < ROW_CONSTANTS)
          constants[i][j][n] = live[i] ? rows[n][at] : 0.0f;
        else
          constants[i][j][n] =
              biases[((size_t)member * DOTS + n - ROW_CONSTANTS) * UNITS + unit + j];
      }
      begin(constants[i][j], state[i][j]);
    }

  auto fetch = [&](int step, float(&inputs)[2][2][READS], int(&code)[2]) {
    const int t = BACK ? STEPS - 1 - step : step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const size_t at = ((size_t)member * STEPS + t) * ROWS + row[i];
      if (CODED) code[i] = live[i] ? codes[at] : STEP;
#pragma unroll
      for (int n = 0; n < READS; ++n) {
        float2 pair = {0.0f, 0.0f};
        if (live[i]) pair = *reinterpret_cast<const float2*>(reads[n] + at * UNITS + unit);
        inputs[i][0][n] = pair.x;
        inputs[i][1][n] = pair.y;
      }
    }
  };
  fetch(0, inputs, code);
  arrive();
  wait();  // no block stores to a block that has not begun

#pragma unroll 1
  for (int step = 0; step < STEPS; ++step) {
    Bfloat16* const buffer = buffers + step % 2 * BUFFER;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float out[2][OPERANDS];
#pragma unroll
      for (int j = 0; j < 2; ++j)
        operands(constants[i][j], state[i][j], inputs[i][j], code[i], out[j]);
#pragma unroll
      for (int o = 0; o < OPERANDS; ++o) {
        // Padding may be infinite; infinity times a zero of the matrices would be NaN.
        const unsigned word = pack(real[0] ? out[0][o] : 0.0f, real[1] ? out[1][o] : 0.0f);
#pragma unroll
        for (int b = 0; b < BLOCKS; ++b)
          store(buffer + (o * TILE + line[i]) * STRIDE + unit, b, word);
      }
    }
    arrive();
    fetch(step + 1 < STEPS ? step + 1 : step, following, following_code);
    wait();

    float sums[DOTS][CHAINS][4] = {};
#pragma unroll
    for (int k = 0; k < SLICES; ++k) {
      unsigned a[OPERANDS][4];
#pragma unroll
      for (int o = 0; o < OPERANDS; ++o)
        load(a[o], buffer + (o * TILE + lane % 16) * STRIDE + k * SLICE + lane / 16 * 8);
#pragma unroll
      for (int g = 0; g < DOTS; ++g) {
        unsigned b[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          b[i] = k < KEPT ? kept[g][k][i] : get(other(g, k, i));
        multiply(sums[g][k % CHAINS], a[OPERAND[g]], b);
      }
    }

    const int t = BACK ? STEPS - 1 - step : step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float written[2][WRITES];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float products[DOTS], next[STATES];
#pragma unroll
        for (int g = 0; g < DOTS; ++g) {
          products[g] = sums[g][0][2 * i + j];
#pragma unroll
          for (int n = 1; n < CHAINS; ++n) products[g] += sums[g][n][2 * i + j];
        }
        advance(constants[i][j], state[i][j], inputs[i][j], code[i], products, next, written[j]);
#pragma unroll
        for (int n = 0; n < STATES; ++n) state[i][j][n] = next[n];
      }
      const size_t at = (((size_t)member * STEPS + t) * ROWS + row[i]) * UNITS + unit;
#pragma unroll
      for (int n = 0; n < WRITES; ++n)
        if (live[i]) put(writes[n] + at, written[0][n], written[1][n]);
      code[i] = following_code[i];
#pragma unroll
      for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int n = 0; n < READS; ++n) inputs[i][j][n] = following[i][j][n];
    }
  }

#pragma unroll
  for (int n = 0; n < LASTS; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const size_t at = ((size_t)member * ROWS + row[i]) * UNITS + unit;
      if (live[i]) put(writes[WRITES + n] + at, state[i][0][n], state[i][1][n]);
    }
}
