// Fuzz target for GGUF files: opens the bytes as a file, asks every getter for every key, decodes every
// tensor.
//
// With clang and INHOUSE_FUZZ this is a libFuzzer target. Otherwise the main below mutates a seed corpus for
// a number of seconds: gguf_fuzz CORPUS_FOLDER SECONDS [SEED]. An input that fails is left as crash.gguf in
// the working directory (written before each try, and removed at the end).
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "test/native/gguf_writer.h"

using namespace inhouse;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// The input is the first part. Another part is the same bytes with the number that it should have (in the low
// byte; so that the joining of parts is reached).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto file = open_gguf("m-00001-of-00002.gguf", [&](const std::string& name) {
      std::string part = bytes;
      const size_t number = part.find("split.no") + sizeof("split.no") - 1 + 4;
      if (number > 12 && number < part.size() && name[6] == '2') part[number] = 1;
      return std::make_unique<test::MemorySource>(name, part);
    });
    test::exercise(*file);
  } catch (const Error& e) {
    if (e.code() != Code::internal) return 0;
    std::fprintf(stderr, "internal error: %s\n", e.message().c_str());
    std::abort();
  }
  return 0;
}

#ifndef INHOUSE_LIBFUZZER
namespace {

struct Random {
  uint64_t state;
  uint64_t next() {
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  size_t below(size_t n) { return n == 0 ? 0 : size_t(next() % n); }
};

// One change of a kind that finds parser bugs: numbers at borders, bits, cuts, copies from elsewhere.
void mutate(std::string& bytes, const std::vector<std::string>& corpus, Random& random) {
  static const uint64_t borders[] = {0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0xffff,
                                     1 << 16,
                                     1 << 20,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     uint64_t(1) << 32,
                                     ~uint64_t(0) >> 1,
                                     uint64_t(1) << 63,
                                     ~uint64_t(0),
                                     ~uint64_t(31)};
  const size_t at = random.below(bytes.size());
  const size_t left = bytes.size() - at;
  switch (random.below(8)) {
    case 0:
      if (left > 0) bytes[at] = char(bytes[at] ^ 1 << random.below(8));
      break;
    case 1:
      if (left > 0) bytes[at] = char(random.next());
      break;
    case 2:
    case 3: {  // a number of 1, 2, 4 or 8 bytes
      const uint64_t value = borders[random.below(std::size(borders))] + random.below(3) - 1;
      const size_t width = std::min(left, size_t(1) << random.below(4));
      std::memcpy(bytes.data() + at, &value, width);
      break;
    }
    case 4: {  // a small number, such as a type or a count
      const uint64_t value = random.below(64);
      const size_t width = std::min(left, size_t(4) << random.below(2));
      std::memcpy(bytes.data() + at, &value, width);
      break;
    }
    case 5:
      if (random.below(4) == 0) bytes.resize(at);
      break;
    case 6:
      bytes.erase(at, random.below(std::min<size_t>(left, 32)));
      break;
    default: {
      const std::string& other = corpus[random.below(corpus.size())];
      const size_t from = random.below(other.size());
      const std::string piece = other.substr(from, random.below(64));
      if (random.below(2))
        bytes.insert(at, piece);
      else
        bytes.replace(at, piece.size(), piece);
      break;
    }
  }
  if (bytes.size() > (64 << 10)) bytes.resize(64 << 10);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: gguf_fuzz CORPUS_FOLDER SECONDS [SEED]\n"), 2;
  std::vector<std::string> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (corpus.empty()) return std::fprintf(stderr, "no seeds in %s\n", argv[1]), 2;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[2]));
  Random random{argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1};
  const auto run = [](const std::string& bytes) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  std::FILE* last = std::fopen("crash.gguf", "wb");
  uint64_t runs = 0;
  for (const std::string& seed : corpus) run(seed);
  while (std::chrono::steady_clock::now() < end) {
    std::string bytes = corpus[random.below(corpus.size())];
    for (size_t i = 1 + random.below(4); i > 0; --i) mutate(bytes, corpus, random);
    if (last) {
      std::rewind(last);
      std::fwrite(bytes.data(), 1, bytes.size(), last);
      std::fflush(last);
      if (ftruncate(fileno(last), off_t(bytes.size())) != 0) return 1;
    }
    run(bytes);
    ++runs;
  }
  if (last) std::fclose(last);
  std::remove("crash.gguf");
  std::printf("%llu runs, no finding\n", static_cast<unsigned long long>(runs));
  return 0;
}
#endif
