
static void** arguments;

static void body() {
  launch(NAME, arguments);
  ++self->block->ended;
}

extern "C" const char* run(int clusters, int threads, int words, int seed, void** given) {
  arguments = given;
  return emulate(clusters, BLOCKS, threads, words, seed, body);
}
