
static char** arguments;

template <class... Args>
static constexpr auto places(void (*)(Args...)) {
  return std::index_sequence_for<Args...>();
}

static void body() {
  launch(NAME, arguments, places(NAME));
  ++self->block->ended;
}

// Run the kernel on `count` arrays of `bytes` each, of items of `sizes`, the last `made` of which it
// makes; return what went wrong.
extern "C" const char* run(int clusters, int threads, int words, int seed, int count, int made,
                           const int* sizes, const size_t* bytes, char** arrays) {
  if (const char* what = check(NAME, count, sizes, places(NAME))) return what;
  std::vector<std::unique_ptr<Guarded>> guarded;
  std::vector<char*> data;
  for (int i = 0; i < count; ++i) {
    guarded.emplace_back(new Guarded(bytes[i]));
    data.push_back(guarded[i]->data);
    if (i < count - made) std::memcpy(data[i], arrays[i], bytes[i]);
  }
  arguments = data.data();
  const char* what = emulate(clusters, BLOCKS, threads, words, seed, body);
  for (int i = count - made; i < count; ++i) std::memcpy(arrays[i], data[i], bytes[i]);
  return what;
}
