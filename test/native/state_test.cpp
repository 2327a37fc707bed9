// Saved prefixes: they come back with the same bits, on every device and in every type, and no file that is
// damaged, cut off or foreign gets anywhere near the cache.
#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>

#include "native/core/checksum.h"
#include "native/engine/kv_cache.h"
#include "native/engine/state.h"
#include "native/engine/state_format.h"
#include "test/native/check.h"
#include "test/native/engine_testing.h"
#include "test/native/temp_path.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

const std::atomic<bool> kNever{false};
constexpr uint64_t kAll = UINT64_MAX;

// A place for a file, empty before and after.
struct StateFile {
  std::string path;
  explicit StateFile(const char* name) : path(temp_path(name)) { std::filesystem::remove(path); }
  ~StateFile() { std::filesystem::remove(path); }
  std::vector<uint8_t> read() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::vector<uint8_t>& bytes) const {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  }
};

// Engines of a rig live as long as it does.
EngineAccess access(Rig& rig) {
  return [&rig] { return std::shared_ptr<Engine>(rig.engine.get(), [](Engine*) {}); };
}
StateReport save(Rig& rig, const StateFile& place, uint64_t most = kAll, const StateScope& scope = {},
                 std::optional<std::span<const int32_t>> prompt = {}) {
  return save_state(access(rig), place.path, scope, prompt, most, kNever);
}
// Whether there is nothing to save, of which the file knows nothing.
bool saves_nothing(Rig& rig, const StateFile& place, uint64_t most = kAll, const StateScope& scope = {},
                   std::optional<std::span<const int32_t>> prompt = {}) {
  place.write({'o', 'l', 'd'});
  try {
    save(rig, place, most, scope, prompt);
    return false;
  } catch (const Error& error) {
    return error.code() == Code::state_empty && place.read().size() == 3;
  }
}
StateReport load(Rig& rig, const StateFile& place, const StateScope& scope = {}) {
  return load_state(access(rig), place.path, scope, kNever);
}
// "" where it loads.
std::string refusal(Rig& rig, const StateFile& place, const StateScope& scope = {}) {
  try {
    load(rig, place, scope);
    return "";
  } catch (const Error& error) {
    return (error.code() == Code::state_invalid ? "" : std::string(code_name(error.code())) + " ") +
           error.message();
  }
}
bool says(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

template <class T>
void put(std::vector<uint8_t>& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
template <class T>
T get(const std::vector<uint8_t>& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
// Makes the checksums of a file fit what it says; `blocks` are the sizes of its blocks.
void seal(std::vector<uint8_t>& bytes, const std::vector<uint64_t>& blocks) {
  uint64_t at = get<uint32_t>(bytes, 12);
  const auto close_at = [&](uint64_t from, uint64_t size) {
    const uint64_t sum = checksum64(bytes.data() + from, size - 8);
    put(bytes, size_t(from + size - 8), sum);
    return sum;
  };
  uint64_t total = state_total(0, close_at(0, at));
  for (const uint64_t size : blocks) {
    total = state_total(total, close_at(at, size));
    at += size;
  }
  put(bytes, size_t(at), total);
}

}  // namespace

TEST(checksums_are_those_of_xxh64) {
  CHECK_EQ(text_checksum64(""), 0xef46db3751d8e999ull);
  CHECK_EQ(text_checksum64("abc"), 0x44bc2cf5ad770999ull);
  CHECK_EQ(text_checksum64("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1ull);
}

TEST(restored_prefixes_give_the_same_bits) {
  StateFile place("bits");
  const KvType types[] = {KvType::f32, KvType::f16, KvType::q8_0, KvType::q4_0};
  for (const Device device : devices()) {
    for (const RandomModel& plain : shapes()) {
      for (size_t t = 0; t < 4; ++t) {
        RandomModel shape = plain;
        if (t % 2 == 1 && shape.architecture == "llama") shape.head_dim = 24;  // no multiple of 32, nor of 16
        EngineOptions options;
        options.kv_type_k = types[t];
        options.kv_type_v = types[(t + (shape.window > 0 ? 1 : 0)) % 4];
        RequestSpec spec = request(150, 12, 0.8f);
        Rig first(shape, device, 1, options);
        const Outcome before = run(first, spec);
        CHECK_EQ(before.usage.cached_tokens, 0);
        const StateReport saved = save(first, place);
        CHECK(saved.blocks >= 5);
        CHECK_EQ(saved.bytes, std::filesystem::file_size(place.path));
        const Outcome again = run(first, spec);
        CHECK(again.usage.cached_tokens >= 128);

        Rig second(shape, device, 2, options);
        const StateReport loaded = load(second, place);
        CHECK_EQ(loaded.blocks, saved.blocks);
        const EngineStats stats = second.engine->stats();
        CHECK_EQ(stats.kv_held, 0);
        const Outcome after = run(second, spec);
        CHECK_EQ(after.usage.cached_tokens, again.usage.cached_tokens);
        CHECK(after.tokens == before.tokens);
        CHECK(after.logprobs == before.logprobs);
        // And on into what nobody computed yet.
        RequestSpec longer = request(260, 5);
        CHECK(run(second, longer).logprobs == run(first, longer).logprobs);
        // A file of a file is the same file, but for the order of blocks that nothing distinguishes.
        Rig third(shape, device, 1, options);
        load(third, place);
        StateFile copy("copy");
        save(third, copy);
        CHECK(copy.read() == place.read());
      }
    }
  }
}

TEST(state_stays_in_its_scope_and_within_its_limit) {
  StateFile place("limit");
  const RandomModel shape = shapes()[0];
  Rig rig(shape, Device::cpu);
  for (int32_t salt = 0; salt < 3; ++salt) run(rig, request(100, 0, 0, salt));  // three blocks each
  RequestSpec other = request(64, 0, 0, 9);
  other.cache_scope = "tenant";
  run(rig, other);
  run(rig, request(100, 0, 0, 0));  // the first is the last used now
  CHECK_EQ(save(rig, place).blocks, 9);
  CHECK_EQ(save(rig, place, kAll, {"tenant"}).blocks, 2);
  CHECK(saves_nothing(rig, place, kAll, {"nobody"}));
  CHECK(saves_nothing(rig, place, 0));

  const uint64_t all = save(rig, place).bytes, two = save(rig, place, kAll, {"tenant"}).bytes;
  const uint64_t block = (all - two) / 7, none = two - 2 * block;
  CHECK(saves_nothing(rig, place, none + block - 1));
  CHECK_EQ(save(rig, place, none + block).blocks, 1);
  const StateReport some = save(rig, place, none + 4 * block + block / 2);
  CHECK_EQ(some.blocks, 4);
  CHECK_EQ(some.bytes, none + 4 * block);
  Rig fresh(shape, Device::cpu);
  load(fresh, place);
  CHECK_EQ(run(fresh, request(100, 0, 0, 0)).usage.cached_tokens, 96);  // the most recently used one, whole
  CHECK_EQ(run(fresh, request(100, 0, 0, 2)).usage.cached_tokens, 32);
  CHECK_EQ(run(fresh, request(100, 0, 0, 1)).usage.cached_tokens, 0);

  // A scope of its own: others do not meet it.
  save(rig, place);
  Rig apart(shape, Device::cpu);
  CHECK_EQ(load(apart, place, {"mine"}).blocks, 9);
  CHECK_EQ(run(apart, request(100, 0)).usage.cached_tokens, 0);
  RequestSpec mine = request(100, 0);
  mine.cache_scope = "mine";
  CHECK_EQ(run(apart, mine).usage.cached_tokens, 96);
}

TEST(the_state_of_one_prompt_is_saved_alone) {
  StateFile place("prompt");
  for (const RandomModel& shape : shapes()) {
    Rig rig(shape, Device::cpu);
    const RequestSpec first = request(100, 12, 0.8f), second = request(100, 0, 0, 1);
    const Outcome before = run(rig, first);
    run(rig, second);
    const std::vector<int32_t>& prompt = first.prompt;
    const auto blocks = [&](size_t from, size_t to) {
      return save(rig, place, kAll, {}, std::span(prompt).subspan(from, to - from)).blocks;
    };
    const auto nothing = [&](std::span<const int32_t> of) { return saves_nothing(rig, place, kAll, {}, of); };
    CHECK(nothing({}));  // no prompt is not any prompt
    CHECK(nothing(std::span(prompt).first(31)));
    CHECK(nothing(std::span(prompt).subspan(1)));  // nobody asked this
    CHECK_EQ(blocks(0, 64), 2);
    const uint64_t two = std::filesystem::file_size(place.path);
    CHECK_EQ(blocks(0, 40), 1);
    CHECK_EQ(save(rig, place, two - 1, {}, prompt).blocks, 1);
    std::vector<int32_t> further = prompt;
    further.resize(1000, 3);
    CHECK_EQ(save(rig, place, kAll, {}, further).blocks, 3);
    Rig fresh(shape, Device::cpu);
    CHECK_EQ(load(fresh, place).blocks, 3);
    const Outcome after = run(fresh, first);
    CHECK_EQ(after.usage.cached_tokens, 96);
    CHECK(after.tokens == before.tokens);
    CHECK(after.logprobs == before.logprobs);
    CHECK_EQ(run(fresh, second).usage.cached_tokens, 0);
  }
}

TEST(what_an_adapter_computed_is_for_the_same_adapter) {
  StateFile place("adapter"), plain("plain");
  const RandomModel shape = shapes()[0];
  Rig rig(shape, Device::cpu), fresh(shape, Device::cpu);
  const auto use = [](const Rig& of, float value, float scale) {
    return StateScope{"mine", small_adapter(of.model, value), scale};
  };
  const StateScope scope = use(rig, 0.25f, 0.5f);
  RequestSpec spec = request(100, 12, 0.8f);
  spec.cache_scope = "mine";
  run(rig, spec);
  CHECK_EQ(save(rig, plain, kAll, {"mine"}).blocks, 3);
  const auto with = [&](const StateScope& some) {
    RequestSpec own = spec;
    own.adapter = some.adapter;
    own.adapter_scale = some.adapter_scale;
    return own;
  };
  const Outcome before = run(rig, with(scope));
  CHECK_EQ(before.usage.cached_tokens, 0);
  CHECK(before.logprobs != run(rig, spec).logprobs);
  CHECK_EQ(save(rig, place, kAll, scope, spec.prompt).blocks, 3);
  CHECK_EQ(save(rig, place, kAll, scope).blocks, 3);

  CHECK(says(refusal(fresh, place), "saved with an adapter"));
  CHECK(says(refusal(fresh, plain, use(fresh, 0.25f, 0.5f)), "saved without an adapter"));
  CHECK(says(refusal(fresh, place, use(fresh, 0.26f, 0.5f)), "another adapter"));
  CHECK(says(refusal(fresh, place, use(fresh, 0.25f, 1)), "at scale 0.5"));
  CHECK_EQ(fresh.engine->stats().kv_idle, 0);
  const StateScope again = use(fresh, 0.25f, 0.5f);  // loaded anew, as by another process
  CHECK_EQ(load(fresh, place, again).blocks, 3);
  CHECK_EQ(run(fresh, spec).usage.cached_tokens, 0);
  const Outcome after = run(fresh, with(again));
  CHECK_EQ(after.usage.cached_tokens, 96);
  CHECK(after.tokens == before.tokens);
  CHECK(after.logprobs == before.logprobs);
}

TEST(state_takes_the_place_of_idle_blocks_alone) {
  StateFile place("full");
  RandomModel shape = shapes()[0];
  EngineOptions options;
  options.context_length = 256;
  options.kv_tokens = 256;  // eight blocks
  Rig rig(shape, Device::cpu, 1, options);
  run(rig, request(200, 0));
  CHECK_EQ(save(rig, place).blocks, 6);
  run(rig, request(200, 0, 0, 1));  // takes the first one's place
  const Outcome expected = run(rig, request(20, 40, 0, 2));
  CHECK_EQ(load(rig, place).blocks, 6);
  CHECK_EQ(run(rig, request(200, 0)).usage.cached_tokens, 192);
  // Beside a request that holds its blocks, here one that waits for logits, what still fits is loaded.
  Rig busy(shape, Device::cpu, 1, options);
  RequestSpec waits = request(100, 10, 0, 2);
  waits.process_logits = true;
  const uint64_t id = busy.engine->submit(waits);
  while (busy.engine->stats().kv_held < 4) std::this_thread::yield();
  CHECK_EQ(load(busy, place).blocks, 4);
  CHECK_EQ(busy.engine->stats().kv_held, 4);
  CHECK_EQ(busy.engine->stats().kv_idle, 4);
  busy.engine->cancel(id);
  busy.collector.wait(id);
  // Twice the same changes nothing.
  CHECK_EQ(load(rig, place).blocks, 6);
  CHECK_EQ(load(rig, place).blocks, 6);
  CHECK_EQ(rig.engine->stats().kv_held, 0);
  CHECK(run(rig, request(20, 40, 0, 2)).tokens == expected.tokens);
}

// A request that needs blocks while a load has filled the cache takes them, and the load has room for no
// more.
TEST(loads_hold_no_blocks_back) {
  EngineOptions options;
  options.context_length = options.kv_tokens = 256;  // eight blocks
  for (const RandomModel& shape : shapes()) {
    Rig from(shape, Device::cpu, 1, options), rig(shape, Device::cpu, 1, options);
    run(from, request(200, 0));
    struct Block {
      std::array<int32_t, kKvBlockTokens> tokens;
      uint32_t present;
      std::vector<uint8_t> bytes;
    };
    std::vector<Block> blocks;
    const std::string scope = shared_scope("", nullptr, 1);
    from.engine->between_steps([&](KvCache& cache) {
      for (const KvCache::NodeRef& ref : cache.list(scope, {}, kAll, 0)) {
        Block& block = blocks.emplace_back(Block{cache.tokens(ref), cache.present(ref), {}});
        for (size_t g = 0; g < cache.pools().size(); ++g) {
          if (!(block.present >> g & 1)) continue;
          const size_t at = block.bytes.size();
          block.bytes.resize(at + size_t(kv_block_file_bytes(cache.pools()[g]->spec)));
          cache.pools()[g]->export_block(cache.block(ref, g), block.bytes.data() + at);
        }
      }
    });
    CHECK_EQ(blocks.size(), size_t(6));
    KvCache::Import import;
    const auto bring = [&](size_t i) {
      rig.engine->between_steps([&](KvCache& cache) {
        cache.import(import, int64_t(i) - 1, blocks[i].tokens, blocks[i].present, blocks[i].bytes.data());
      });
    };
    rig.engine->between_steps([&](KvCache& cache) { import = cache.begin_import(scope); });
    for (size_t i = 0; i < 5; ++i) bring(i);
    CHECK_EQ(rig.engine->stats().kv_idle, 5);
    const Outcome got = run(rig, request(20, 200, 0, 2));  // seven blocks
    CHECK_EQ(got.finish == FinishReason::length, true);
    CHECK_EQ(rig.engine->stats().set_aside, 0u);
    bring(5);  // its parent has made room: it is left out
    int64_t left = 0;
    rig.engine->between_steps([&](KvCache& cache) { left = cache.end_import(import); });
    CHECK_EQ(left, 1);
    CHECK_EQ(rig.engine->stats().kv_held, 0);
    CHECK(got.tokens == run(from, request(20, 200, 0, 2)).tokens);
    if (shape.window == 0) CHECK_EQ(run(rig, request(40, 0)).usage.cached_tokens, 32);  // the beginning
  }
}

TEST(loads_at_once_share_what_room_there_is) {
  StateFile one("one"), two("two");
  EngineOptions options;
  options.context_length = options.kv_tokens = 256;
  const RandomModel shape = shapes()[0];
  Rig first(shape, Device::cpu, 1, options), second(shape, Device::cpu, 1, options);
  run(first, request(200, 0));
  run(second, request(200, 0, 0, 1));
  save(first, one);
  save(second, two);
  Rig rig(shape, Device::cpu, 1, options);
  KvCache::Import open;  // another load has not ended yet
  rig.engine->between_steps([&](KvCache& cache) { open = cache.begin_import("other"); });
  CHECK_EQ(load(rig, one).blocks, 6);
  CHECK_EQ(load(rig, two).blocks, 2);
  CHECK_EQ(run(rig, request(200, 0)).usage.cached_tokens, 192);
  rig.engine->between_steps([&](KvCache& cache) { cache.end_import(open); });
  CHECK_EQ(load(rig, two).blocks, 6);
  CHECK_EQ(rig.engine->stats().kv_held, 0);
}

// However many callers come back at once: each gap between two steps is for one long slice alone.
TEST(work_between_steps_does_not_keep_the_engine) {
  class Slow final : public Constraint {  // makes steps long enough for callers to come back meanwhile
   public:
    void allow(std::span<uint32_t> mask) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::fill(mask.begin(), mask.end(), UINT32_MAX);
    }
    void accept(int32_t) override {}
  };
  RequestSpec spec = request(20, 200);
  spec.constraint = std::make_shared<Slow>();
  Rig rig(shapes()[0], Device::cpu);
  std::atomic<uint64_t> calls{0}, slices{0}, most{0};
  uint64_t step = 0, in_step = 0;  // of the engine's thread
  const auto caller = [&] {
    for (bool running = true; running && slices < 100;) {
      rig.engine->between_steps([&](KvCache&) {
        const EngineStats stats = rig.engine->stats();
        ++calls;
        running = stats.finished == 0;
        if (stats.running == 0) return;
        in_step = stats.steps == step ? in_step + 1 : 1;
        step = stats.steps;
        most = std::max(most.load(), in_step);
        ++slices;
        std::this_thread::sleep_for(kSliceTime);
      });
    }
  };
  std::thread one(caller), two(caller), three(caller);
  while (calls == 0) std::this_thread::yield();
  const uint64_t id = rig.engine->submit(std::move(spec));
  one.join();
  two.join();
  three.join();
  CHECK_EQ(rig.collector.wait(id).tokens.size(), size_t(200));
  CHECK_EQ(most.load(), 1u);
}

TEST(running_requests_are_saved_and_go_on) {
  StateFile place("busy");
  Rig rig(shapes()[0], Device::cpu);
  const Outcome alone = run(rig, request(70, 200, 0.8f));
  std::vector<uint64_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(rig.engine->submit(request(70, 200, 0.8f)));
  for (int i = 0; i < 20; ++i) {
    save(rig, place);
    load(rig, place);
  }
  for (const uint64_t id : ids) {
    const Outcome got = rig.collector.wait(id);
    CHECK(got.tokens == alone.tokens);
    CHECK(got.logprobs == alone.logprobs);
  }
  CHECK_EQ(rig.engine->stats().kv_held, 0);
}

TEST(foreign_state_is_refused) {
  StateFile place("foreign");
  const RandomModel shape = shapes()[0];
  EngineOptions options;
  options.kv_type_k = options.kv_type_v = KvType::f16;
  Rig rig(shape, Device::cpu, 1, options);
  run(rig, request(100, 0));
  save(rig, place);
  RandomModel trained = shape;
  trained.seed = 77;  // the same header, other weights
  Rig other(trained, Device::cpu, 1, options);
  CHECK(says(refusal(other, place), "another model"));
  Rig reference(shape, Device::reference, 1, options);
  CHECK(says(refusal(reference, place), "\"cpu\""));
  options.kv_type_v = KvType::q4_0;
  Rig types(shape, Device::cpu, 1, options);
  CHECK(says(refusal(types, place), "V as f16; this model's kvType is f16 and q4_0"));
  CHECK(says(refusal(rig, StateFile("missing")), "FILE_NOT_FOUND"));
  place.write({});
  CHECK(says(refusal(rig, place), "not a saved state"));
  place.write(std::vector<uint8_t>(4096, 'x'));
  CHECK(says(refusal(rig, place), "not a saved state"));
}

TEST(damaged_state_is_refused_before_anything_goes_in) {
  StateFile place("damaged");
  RandomModel shape = shapes()[2];  // with windows
  Rig rig(shape, Device::cpu);
  run(rig, request(100, 0));
  save(rig, place);
  const std::vector<uint8_t> good = place.read();
  const auto header = get<uint32_t>(good, 12);
  Rig fresh(shape, Device::cpu);
  const auto refused = [&](const std::vector<uint8_t>& bytes, const std::string& what) {
    place.write(bytes);
    const std::string why = refusal(fresh, place);
    if (why.empty() || why.find("ERR_") != std::string::npos)
      CHECK_EQ(what + ": " + why, std::string("refused"));
    return why;
  };
  // Each byte of the header, then of the first block's head, then every so many.
  for (size_t at = 0; at < good.size(); at += at < header + kStateBlockHead ? 1 : 977) {
    std::vector<uint8_t> bad = good;
    bad[at] ^= uint8_t(1 << at % 8);
    refused(bad, "byte " + std::to_string(at));
    bad[at] = uint8_t(~good[at]);
    refused(bad, "byte " + std::to_string(at));
  }
  for (size_t size = 0; size < good.size(); size += size < 2 * header ? 1 : 1009)
    refused({good.begin(), good.begin() + int64_t(size)}, "length " + std::to_string(size));
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  CHECK(says(refused(longer, "longer"), "after its end"));
  CHECK_EQ(fresh.engine->stats().kv_idle, 0);

  // Fields that make no sense under checksums that fit.
  const auto blocks = get<uint64_t>(good, 24);
  CHECK_EQ(blocks, 3u);
  const uint64_t block = (good.size() - header - 8) / blocks;
  const std::vector<uint64_t> sizes(size_t(blocks), block);
  std::vector<uint8_t> same = good;
  seal(same, sizes);
  CHECK(same == good);
  const auto with = [&](size_t at, auto value) {
    std::vector<uint8_t> bad = good;
    put(bad, at, value);
    seal(bad, sizes);
    return refused(bad, "value at " + std::to_string(at));
  };
  for (const uint64_t huge : {uint64_t(0), uint64_t(2), uint64_t(4), UINT64_MAX, uint64_t(1) << 62}) {
    with(16, huge);
    with(24, huge);
  }
  CHECK(says(with(8, uint32_t(1)), "version 1"));
  for (const uint32_t size : {0u, 79u, 1u << 16, UINT32_MAX}) {
    std::vector<uint8_t> bad = good;  // read before the checksum can be
    put(bad, 12, size);
    refused(bad, "header bytes");
  }
  for (const uint32_t n : {0u, 1u, 5u, 33u, UINT32_MAX, 1u << 27}) {
    with(40, n);
    with(44, n);
    with(48, n);
    with(52, n);
  }
  for (size_t field = 0; field < 4 + 16; ++field) with(56 + 4 * field, -1);
  const size_t second = header + size_t(block);
  for (const int64_t parent : {int64_t(-2), int64_t(1), int64_t(5), INT64_MAX, INT64_MIN})
    with(second, parent);
  for (const uint32_t present : {0u, 1u, 4u, 7u, UINT32_MAX}) with(second + 8, present);
  for (const int32_t token : {-1, 200, INT32_MAX, INT32_MIN}) with(second + 16, token);
  CHECK_EQ(fresh.engine->stats().kv_idle, 0);

  place.write(good);
  CHECK_EQ(load(fresh, place).blocks, 3);
}

TEST(saving_replaces_a_file_whole_or_not_at_all) {
  StateFile place("whole");
  Rig rig(shapes()[0], Device::cpu);
  run(rig, request(100, 0));
  place.write({'o', 'l', 'd'});
  const std::atomic<bool> stop{true};
  bool aborted = false;
  try {
    save_state(access(rig), place.path, {}, {}, kAll, stop);
  } catch (const Error& error) {
    aborted = error.code() == Code::aborted;
  }
  CHECK(aborted);
  CHECK_EQ(place.read().size(), size_t(3));
  save(rig, place);
  CHECK(place.read().size() > 1000);
  const auto parent = std::filesystem::path(place.path).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(parent))
    CHECK(entry.path().string().rfind(place.path + ".", 0) != 0);
  Code code = Code::internal;
  try {
    save_state(access(rig), parent.string() + "/no/such/folder/file", {}, {}, kAll, kNever);
  } catch (const Error& error) {
    code = error.code();
  }
  CHECK(code == Code::file_write);
}

TEST(an_engine_can_end_while_state_is_saved) {
  StateFile place("end");
  for (int round = 0; round < 10; ++round) {
    Rig rig(shapes()[0], Device::cpu);
    run(rig, request(200, 0));
    save(rig, place);
    std::shared_ptr<Engine> engine = std::move(rig.engine);
    rig.collector.engine = nullptr;
    std::mutex mutex;
    const EngineAccess get_engine = [&] {
      const std::lock_guard lock(mutex);
      if (!engine) throw Error(Code::disposed, "disposed");
      return engine;
    };
    std::thread other([&] {
      try {
        for (int i = 0; i < 50; ++i) {
          save_state(get_engine, place.path + "2", {}, {}, kAll, kNever);
          load_state(get_engine, place.path, {}, kNever);
        }
      } catch (const Error& error) {
        CHECK(error.code() == Code::disposed);
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    std::shared_ptr<Engine> last;
    {
      const std::lock_guard lock(mutex);
      last = std::move(engine);
    }
    last.reset();
    other.join();
  }
  std::filesystem::remove(place.path + "2");
}
