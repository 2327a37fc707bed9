// Runs a model without Node: evaluates token ids, or continues them greedily.
//
//   inhouse_evaluate MODEL [--device cpu|reference] [--threads N] [--isa NAME] [--kv f32|f16|q8_0|q4_0]
//                    [--kv-v TYPE] [--logprobs OUT] [--greedy N] < IDS
//
// IDS are decimal token ids on standard input. Prints the mean negative log-likelihood in nats, or with
// --greedy the ids drawn. OUT receives float32 log-probabilities [tokens, vocabulary].
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>

#include "native/engine/engine.h"

using namespace inhouse;

namespace {

// Collects one request's events and lets main wait for the last of them.
class Collector final : public EventSink {
 public:
  void on_events(std::vector<Event>&& events) override {
    const std::lock_guard lock(mutex_);
    for (Event& event : events) events_.push_back(std::move(event));
    ready_.notify_one();
  }
  std::vector<Event> wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return !events_.empty(); });
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<Event> events_;
};

KvType kv_type(std::string_view name) {
  return name == "f32"    ? KvType::f32
         : name == "q8_0" ? KvType::q8_0
         : name == "q4_0" ? KvType::q4_0
                          : KvType::f16;
}

int run(int argc, char** argv) {
  ModelOptions options;
  std::string out_path;
  int32_t greedy = 0;
  EngineOptions engine_options;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0 && i + 1 < argc; };
    if (is("--device")) {
      options.device = std::strcmp(argv[++i], "reference") == 0 ? Device::reference : Device::cpu;
    } else if (is("--threads")) {
      options.cpu.threads = std::atoi(argv[++i]);
    } else if (is("--isa")) {
      options.cpu.instruction_set = argv[++i];
    } else if (is("--logprobs")) {
      out_path = argv[++i];
    } else if (is("--greedy")) {
      greedy = std::atoi(argv[++i]);
    } else if (is("--kv")) {
      engine_options.kv_type_k = engine_options.kv_type_v = kv_type(argv[++i]);
    } else if (is("--kv-v")) {
      engine_options.kv_type_v = kv_type(argv[++i]);
    } else if (is("--batch")) {
      engine_options.max_batch_tokens = std::atoi(argv[++i]);
    } else {
      options.path = argv[i];
    }
  }
  std::shared_ptr<Model> model = Model::load(options, {});
  std::fprintf(stderr, "%s, %llu MiB of weights\n", model->backend().description().c_str(),
               static_cast<unsigned long long>(model->weight_bytes() >> 20));
  Collector collector;
  const std::unique_ptr<Engine> engine = Engine::create(model, {}, engine_options, collector);
  RequestSpec spec;
  spec.prompt.assign(std::istream_iterator<int32_t>(std::cin), {});
  spec.evaluate = greedy == 0;
  spec.evaluate_rows = !out_path.empty();
  spec.max_tokens = greedy;
  spec.sampling.temperature = 0;
  std::ofstream out(out_path, std::ios::binary);
  const uint64_t id = engine->submit(std::move(spec));
  double sum = 0;
  int64_t count = 0;
  for (bool done = false; !done;) {
    for (Event& event : collector.wait()) {
      if (event.error) throw *event.error;
      for (float logprob : event.token_logprobs) sum -= double(logprob), ++count;
      for (int32_t token : event.tokens) std::printf("%d ", token);
      out.write(reinterpret_cast<const char*>(event.rows.data()),
                std::streamsize(event.rows.size() * sizeof(float)));
      done = event.finish != FinishReason::none;
      engine->acknowledge(id);
      if (done) {
        const Usage& usage = event.usage;
        std::fprintf(
            stderr, "prompt %.1f tokens/s, decode %.1f tokens/s\n",
            usage.prompt_tokens / usage.prompt_ms * 1e3,
            usage.completion_tokens > 1 ? (usage.completion_tokens - 1) / usage.decode_ms * 1e3 : 0.0);
      }
    }
  }
  if (count)
    std::printf("%lld tokens, mean negative log-likelihood %.6f nats", static_cast<long long>(count),
                sum / double(count));
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (...) {
    const Error error = describe_current_exception();
    std::fprintf(stderr, "%s: %s\n", code_name(error.code()), error.message().c_str());
    return 1;
  }
}
