// What device.cuh offers, on a CPU: a cluster's lanes are taken in a random order, each up to where
// it must wait for others. Fragments are laid out as the PTX ISA draws them (sections on ldmatrix
// and on mma.m16n8k16). It fails where two lanes touch a word of shared memory, one to write it, with
// no barrier between; where memory is touched that is no array's; where the lanes of a warp part
// before an operation that they do together; where a lane waits forever; and where a block is not
// there for another.

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#define __cluster_dims__(...)
#define __device__
#define __forceinline__ inline
#define __global__
#define __launch_bounds__(...)
#define SHARED(name) unsigned* const name = self->block->shared
#define blockIdx self->block->index
#define threadIdx self->index

typedef unsigned short Bfloat16;
struct float2 {
  float x, y;
};
struct Index {
  int x;
};
enum Kind { NOTHING, ARRIVE, WAIT, LOAD, MULTIPLY };
struct Block;
struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Index index;
  Block* block;
  int epoch = 0;          // barriers passed
  bool arrived = false;   // at the next
  Kind kind = NOTHING;    // of the operation in which it waits for its warp,
  int operations = 0;     // and how many there were before
  const void* row;
  float* c;
  unsigned *out, a[4], b[2];
};
struct Touch {
  int epoch = -1, lane = -1;
};
constexpr int SEVERAL = -2;  // lanes
struct Block {
  Index index;
  int rank, ended = 0;
  unsigned* shared;
  std::vector<Touch> written, read;  // by word
};

static std::vector<std::unique_ptr<Lane>> lanes;
static std::vector<std::unique_ptr<Block>> cluster;
static std::vector<Lane*> ready, waiting;
static std::vector<std::vector<Lane*>> met;  // of each warp, in its next common operation
static Lane* self;
static ucontext_t scheduler;
static int arrivals;
static const char* failure;

[[noreturn]] static void fail(const char* what) {
  failure = what;
  setcontext(&scheduler);
  __builtin_unreachable();
}

// Memory between pages that nobody may touch; it ends at one of them.
struct Guarded {
  char *pages, *data;
  size_t size;

  explicit Guarded(size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    size = body + 2 * page;
    pages = (char*)mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + page, body, PROT_READ | PROT_WRITE);
    std::memset(pages + page, 0xff, body);  // NaN
    data = pages + page + (body - bytes) / 16 * 16;
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(pages, size); }
};

static void touched_nothing(int, siginfo_t*, void*) { fail("memory is touched that is no array's"); }

// Lets `touched_nothing` speak for segmentation faults.
struct Watch {
  struct sigaction before;

  Watch() {
    struct sigaction action = {};
    action.sa_sigaction = touched_nothing;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before);
  }
  ~Watch() { sigaction(SIGSEGV, &before, nullptr); }
};

static int number(const Lane* lane) {
  return lane->block->rank * int(lanes.size() / cluster.size()) + lane->index.x;
}

static void yield() { swapcontext(&self->context, &scheduler); }

// Note that a lane touches a word of a block's shared memory.
static void touch(Lane* lane, Block* block, const void* place, bool writes) {
  const size_t word = (const unsigned*)place - block->shared;
  if (word >= block->written.size()) fail("outside of shared memory");
  if (lane->arrived) fail("shared memory is touched between arrive and wait");
  if (block != lane->block && lane->epoch == 0) fail("a block is stored to that may not have begun");
  if (block != lane->block && block->ended) fail("a block is stored to that has ended");
  const auto clash = [&](const Touch& other) {
    return other.epoch == lane->epoch && other.lane != number(lane);
  };
  Touch &written = block->written[word], &read = block->read[word];
  if (clash(written) || (writes && clash(read))) fail("a race");
  if (writes)
    written = {lane->epoch, number(lane)};
  else
    read = {lane->epoch, clash(read) ? SEVERAL : number(lane)};
}

// Wait for the other lanes of the warp; return them to the last that comes.
static std::vector<Lane*> meet(Kind kind) {
  auto& warp = met[number(self) / 32];
  self->kind = kind;
  ++self->operations;
  for (Lane* lane : warp)
    if (lane->kind != kind || lane->operations != self->operations) fail("the lanes of a warp part");
  warp.push_back(self);
  if (warp.size() < 32) {
    yield();
    return {};
  }
  std::vector<Lane*> all(32);
  for (Lane* lane : warp) {
    all[lane->index.x % 32] = lane;
    if (lane != self) ready.push_back(lane);
  }
  warp.clear();
  return all;
}

inline int rank() { return self->block->rank; }

inline void arrive() {
  meet(ARRIVE);
  if (self->arrived) fail("arrives twice");
  self->arrived = true;
  ++arrivals;
}

inline void wait() {
  meet(WAIT);
  if (!self->arrived) fail("waits before it arrives");
  if (waiting.size() + 1 < lanes.size()) {
    waiting.push_back(self);
    yield();
  } else {
    if (arrivals != int(lanes.size())) fail("a barrier is passed before all arrive");
    arrivals = 0;
    ready.insert(ready.end(), waiting.begin(), waiting.end());
    waiting.clear();
  }
  self->arrived = false;
  ++self->epoch;
}

inline void store(const void* place, int block, unsigned word) {
  const size_t offset = (const char*)place - (const char*)self->block->shared;
  if (offset % 4) fail("a store that is not aligned");
  void* there = (char*)cluster[block]->shared + offset;
  touch(self, cluster[block].get(), there, true);
  std::memcpy(there, &word, 4);
}

inline unsigned get(const unsigned* place) {
  touch(self, self->block, place, false);
  return *place;
}

inline void put(unsigned* place, unsigned word) {
  touch(self, self->block, place, true);
  *place = word;
}

inline void put(float* place, float low, float high) {
  if ((uintptr_t)place % 8) fail("a pair that is not aligned");
  place[0] = low;
  place[1] = high;
}

inline unsigned rounded(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline unsigned pack(float low, float high) { return rounded(low) | rounded(high) << 16; }

inline float half(unsigned word, int which) {
  const uint32_t bits = which ? word & 0xffff0000u : word << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline void load(unsigned (&a)[4], const void* row) {
  if ((uintptr_t)row % 16) fail("a row that is not aligned");
  self->row = row;
  self->out = a;
  for (int i = 0; i < 4; ++i) touch(self, self->block, (const unsigned*)row + i, false);
  const auto all = meet(LOAD);
  for (int l = 0; l < int(all.size()); ++l)
    for (int m = 0; m < 4; ++m)
      std::memcpy(&all[l]->out[m], (const unsigned*)all[8 * m + l / 4]->row + l % 4, 4);
}

inline void multiply(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  std::memcpy(self->a, a, sizeof a);
  std::memcpy(self->b, b, sizeof b);
  self->c = c;
  const auto all = meet(MULTIPLY);
  if (all.empty()) return;
  double A[16][16], B[16][8];
  for (int l = 0; l < 32; ++l)
    for (int j = 0; j < 2; ++j) {
      const int group = l / 4, pair = l % 4 * 2 + j;
      for (int i = 0; i < 4; ++i) A[group + i % 2 * 8][pair + i / 2 * 8] = half(all[l]->a[i], j);
      for (int i = 0; i < 2; ++i) B[pair + i * 8][group] = half(all[l]->b[i], j);
    }
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      double sum = all[l]->c[i];
      for (int k = 0; k < 16; ++k) sum += A[l / 4 + i / 2 * 8][k] * B[k][l % 4 * 2 + i % 2];
      all[l]->c[i] = (float)sum;
    }
}

inline float logistic(float x) { return 1.0f / (1.0f + std::exp(-x)); }

template <class... Args, size_t... I>
static const char* check(void (*)(Args...), int count, const int* sizes, std::index_sequence<I...>) {
  if (count != int(sizeof...(Args))) return "another number of arrays";
  const int known[] = {int(sizeof(std::remove_pointer_t<Args>))...};
  return std::memcmp(known, sizes, sizeof known) ? "an array of another dtype" : nullptr;
}

template <class... Args, size_t... I>
static void launch(void (*kernel)(Args...), char** args, std::index_sequence<I...>) {
  kernel((Args)args[I]...);
}

// Run `body` in every lane of some clusters, one cluster after another; return what went wrong.
static const char* emulate(int clusters, int blocks, int threads, int words, int seed,
                           void (*body)()) {
  std::mt19937 random(seed);
  failure = nullptr;
  Watch watch;
  for (int number = 0; number < clusters; ++number) {
    std::vector<std::unique_ptr<Guarded>> shared;
    ready.clear();
    waiting.clear();
    lanes.clear();
    cluster.clear();
    for (int b = 0; b < blocks; ++b) {
      shared.emplace_back(new Guarded(4 * words));
      cluster.emplace_back(new Block{{number * blocks + b}, b});
      cluster[b]->shared = (unsigned*)shared[b]->data;
      cluster[b]->written.resize(words);
      cluster[b]->read.resize(words);
      for (int t = 0; t < threads; ++t) {
        lanes.emplace_back(new Lane);
        Lane* lane = lanes.back().get();
        lane->stack.reset(new char[1 << 16]);
        lane->index = {t};
        lane->block = cluster[b].get();
        getcontext(&lane->context);
        lane->context.uc_stack.ss_sp = lane->stack.get();
        lane->context.uc_stack.ss_size = 1 << 16;
        lane->context.uc_link = &scheduler;
        makecontext(&lane->context, body, 0);
        ready.push_back(lane);
      }
    }
    met.assign(lanes.size() / 32, {});
    arrivals = 0;
    while (!ready.empty()) {
      std::swap(ready[random() % ready.size()], ready.back());
      self = ready.back();
      ready.pop_back();
      swapcontext(&scheduler, &self->context);
      if (failure) return failure;
    }
    for (const auto& block : cluster)
      if (block->ended != threads) return "lanes wait for others that do not come";
  }
  return nullptr;
}
